package main

import "strconv"

// The treasure hunt with the same rules as the engine's: a clue new to the team scores 10, a puzzle new to it 100, a
// district ranks its best 24 teams, and each event has one output record.
const (
	districts          = 12
	puzzlesPerDistrict = 40
	cluesPerPuzzle     = 5
	boardTeams         = 24
	leaders            = 5
	clueScore          = 10
	solvedScore        = 100
	firstPartition     = 1024
)

type event struct {
	Kind     string  `json:"kind"`
	Producer uint32  `json:"producer"`
	Sequence uint64  `json:"sequence"`
	Player   uint32  `json:"player"`
	Team     uint32  `json:"team"`
	District uint32  `json:"district"`
	Puzzle   uint32  `json:"puzzle"`
	Clue     uint32  `json:"clue"`
	X        float64 `json:"x"`
	Y        float64 `json:"y"`
	Note     string  `json:"note"`
}

type team struct {
	score, solved, clues, events uint32
	solvedPuzzles                uint64
	cluesOfPuzzle                [puzzlesPerDistrict]uint8
}

type place struct{ team, score uint32 }

type district struct {
	events, teams, offset uint64
	opened                bool
	ranked                int
	board                 [boardTeams]place
}

type teamKey struct{ district, team uint32 }

type hunt struct {
	teams     map[teamKey]*team
	districts [districts]district
}

func newHunt() *hunt { return &hunt{teams: make(map[teamKey]*team, 1<<14)} }

// apply changes the state and appends the output record to out; it reports whether the event was in range.
func (h *hunt) apply(e *event, out []byte) ([]byte, bool) {
	if e.District >= districts || e.Puzzle >= puzzlesPerDistrict || e.Clue >= cluesPerPuzzle {
		return out, false
	}
	switch e.Kind {
	case "clue_discovered", "team_solved", "district_opened":
	default:
		return out, false
	}
	d := &h.districts[e.District]
	key := teamKey{e.District, e.Team}
	t := h.teams[key]
	if t == nil {
		t = new(team)
		h.teams[key] = t
		d.teams++
	}
	t.events++
	d.events++
	gained := t.gain(e)
	t.score += gained
	if e.Kind == "district_opened" {
		d.opened = true
	}
	if gained > 0 {
		d.promote(e.Team, t.score)
	}
	out = d.render(e, t, out)
	d.offset++
	return out, true
}

func (t *team) gain(e *event) uint32 {
	switch e.Kind {
	case "clue_discovered":
		bit := uint8(1) << e.Clue
		if t.cluesOfPuzzle[e.Puzzle]&bit == 0 {
			t.cluesOfPuzzle[e.Puzzle] |= bit
			t.clues++
			return clueScore
		}
	case "team_solved":
		bit := uint64(1) << e.Puzzle
		if t.solvedPuzzles&bit == 0 {
			t.solvedPuzzles |= bit
			t.solved++
			return solvedScore
		}
	}
	return 0
}

func (d *district) promote(team, score uint32) {
	at := -1
	for i := range d.board[:d.ranked] {
		if d.board[i].team == team {
			at = i
			break
		}
	}
	switch {
	case at >= 0:
	case d.ranked < boardTeams:
		at = d.ranked
		d.ranked++
	case d.board[boardTeams-1].score < score:
		at = boardTeams - 1
	default:
		return
	}
	for ; at > 0 && d.board[at-1].score < score; at-- {
		d.board[at] = d.board[at-1]
	}
	d.board[at] = place{team, score}
}

func field(out []byte, name string, value uint64) []byte {
	return strconv.AppendUint(append(out, name...), value, 10)
}

func (d *district) render(e *event, t *team, out []byte) []byte {
	out = field(out, `{"producer":`, uint64(e.Producer))
	out = field(out, `,"sequence":`, e.Sequence)
	out = append(append(append(out, `,"kind":"`...), e.Kind...), '"')
	out = field(out, `,"district":`, uint64(e.District))
	out = field(out, `,"team":`, uint64(e.Team))
	out = field(out, `,"score":`, uint64(t.score))
	out = field(out, `,"solved":`, uint64(t.solved))
	out = field(out, `,"clues":`, uint64(t.clues))
	out = append(out, `,"rank":`...)
	rank := 0
	for i := range d.board[:d.ranked] {
		if d.board[i].team == e.Team {
			rank = i + 1
			break
		}
	}
	if rank > 0 {
		out = strconv.AppendUint(out, uint64(rank), 10)
	} else {
		out = append(out, "null"...)
	}
	out = append(out, `,"leaders":[`...)
	for i := range d.board[:min(d.ranked, leaders)] {
		if i > 0 {
			out = append(out, ',')
		}
		out = field(out, `{"team":`, uint64(d.board[i].team))
		out = append(field(out, `,"score":`, uint64(d.board[i].score)), '}')
	}
	out = field(out, `],"version":{"partition":`, firstPartition+uint64(e.District))
	out = field(out, `,"offset":`, d.offset)
	return append(out, "}}"...)
}
