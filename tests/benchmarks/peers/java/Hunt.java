import java.util.HashMap;
import java.util.Map;

/**
 * The treasure hunt with the same rules as the engine's: a clue new to the team scores 10, a puzzle new to it 100, a
 * district ranks its best 24 teams, and each event has one output record.
 */
final class Hunt {
    private static final int DISTRICTS = 12;
    private static final int PUZZLES_PER_DISTRICT = 40;
    private static final int CLUES_PER_PUZZLE = 5;
    private static final int BOARD_TEAMS = 24;
    private static final int LEADERS = 5;
    private static final int CLUE_SCORE = 10;
    private static final int SOLVED_SCORE = 100;
    private static final int FIRST_PARTITION = 1024;

    /** One event, bound by Jackson. */
    static final class Event {
        public String kind;
        public int producer;
        public long sequence;
        public int player;
        public int team;
        public int district;
        public int puzzle;
        public int clue;
        public double x;
        public double y;
        public String note;
    }

    private static final class Team {
        int score;
        int solved;
        int clues;
        long solvedPuzzles;
        final byte[] cluesOfPuzzle = new byte[PUZZLES_PER_DISTRICT];
    }

    private static final class District {
        long offset;
        boolean opened;
        int ranked;
        final int[] teams = new int[BOARD_TEAMS];
        final int[] scores = new int[BOARD_TEAMS];
    }

    private final Map<Long, Team> teams = new HashMap<>(1 << 15);
    private final District[] districts = new District[DISTRICTS];

    Hunt() {
        for (int index = 0; index < DISTRICTS; index++) {
            districts[index] = new District();
        }
    }

    /** Changes the state and writes the output record; says whether the event was in range. */
    boolean apply(Event event, Text output) {
        if (event.kind == null
                || Integer.compareUnsigned(event.district, DISTRICTS) >= 0
                || Integer.compareUnsigned(event.puzzle, PUZZLES_PER_DISTRICT) >= 0
                || Integer.compareUnsigned(event.clue, CLUES_PER_PUZZLE) >= 0) {
            return false;
        }
        District district = districts[event.district];
        Team team = teams.computeIfAbsent(((long) event.district << 32) | event.team, key -> new Team());
        int gained;
        switch (event.kind) {
            case "clue_discovered" -> gained = clue(team, event);
            case "team_solved" -> gained = solve(team, event);
            case "district_opened" -> {
                gained = 0;
                district.opened = true;
            }
            default -> {
                return false;
            }
        }
        team.score += gained;
        if (gained > 0) {
            promote(district, event.team, team.score);
        }
        render(event, team, district, output);
        district.offset++;
        return true;
    }

    private static int clue(Team team, Event event) {
        int bit = 1 << event.clue;
        if ((team.cluesOfPuzzle[event.puzzle] & bit) != 0) {
            return 0;
        }
        team.cluesOfPuzzle[event.puzzle] |= (byte) bit;
        team.clues++;
        return CLUE_SCORE;
    }

    private static int solve(Team team, Event event) {
        long bit = 1L << event.puzzle;
        if ((team.solvedPuzzles & bit) != 0) {
            return 0;
        }
        team.solvedPuzzles |= bit;
        team.solved++;
        return SOLVED_SCORE;
    }

    private static int placeOf(District district, int team) {
        for (int place = 0; place < district.ranked; place++) {
            if (district.teams[place] == team) {
                return place;
            }
        }
        return -1;
    }

    private static void promote(District district, int team, int score) {
        int place = placeOf(district, team);
        if (place < 0) {
            if (district.ranked < BOARD_TEAMS) {
                place = district.ranked++;
            } else if (district.scores[BOARD_TEAMS - 1] < score) {
                place = BOARD_TEAMS - 1;
            } else {
                return;
            }
        }
        for (; place > 0 && district.scores[place - 1] < score; place--) {
            district.teams[place] = district.teams[place - 1];
            district.scores[place] = district.scores[place - 1];
        }
        district.teams[place] = team;
        district.scores[place] = score;
    }

    private static void render(Event event, Team team, District district, Text output) {
        output.text("{\"producer\":").number(event.producer);
        output.text(",\"sequence\":").number(event.sequence);
        output.text(",\"kind\":\"").text(event.kind).text("\"");
        output.text(",\"district\":").number(event.district);
        output.text(",\"team\":").number(event.team);
        output.text(",\"score\":").number(team.score);
        output.text(",\"solved\":").number(team.solved);
        output.text(",\"clues\":").number(team.clues);
        output.text(",\"rank\":");
        int place = placeOf(district, event.team);
        if (place < 0) {
            output.text("null");
        } else {
            output.number(place + 1);
        }
        output.text(",\"leaders\":[");
        for (int leader = 0; leader < Math.min(district.ranked, LEADERS); leader++) {
            output.text(leader == 0 ? "{\"team\":" : ",{\"team\":").number(district.teams[leader]);
            output.text(",\"score\":").number(district.scores[leader]).text("}");
        }
        output.text("],\"version\":{\"partition\":").number(FIRST_PARTITION + event.district);
        output.text(",\"offset\":").number(district.offset).text("}}");
    }

    /** ASCII text in a reused buffer. */
    static final class Text {
        private final byte[] bytes = new byte[1024];
        private int length;

        void clear() {
            length = 0;
        }

        int length() {
            return length;
        }

        @SuppressWarnings("deprecation") // the one copy of ASCII out of a string that allocates nothing
        Text text(String text) {
            text.getBytes(0, text.length(), bytes, length);
            length += text.length();
            return this;
        }

        Text number(long value) {
            int end = length + 1;
            for (long rest = value / 10; rest > 0; rest /= 10) {
                end++;
            }
            length = end;
            do {
                bytes[--end] = (byte) ('0' + value % 10);
                value /= 10;
            } while (value > 0);
            return this;
        }
    }
}
