//! A seeded simulation of the whole core: two engines, a broker, senders, and everything that may go wrong.
//!
//! Owns the choice of what happens next. All of it follows from the seed: the pool runs
//! empty, bursts come, commits fail, cuts are not taken, partitions move or are lost,
//! engines crash, workers stall, programs roll back in the middle of a batch. In between
//! everything comes to rest, and then outputs, offsets and changelog have to be those of
//! a plain model that applies each partition's log once, from its beginning.
//!
//! `make simulate SEED=n STEPS=m` repeats one run; a failure prints that command.

mod broker;
mod ledger;
mod node;

use std::fmt::Display;

use broker::Broker;
use ledger::Entry;
use node::{Executors, Node};

const PARTITIONS: u32 = 6;
const NODES: usize = 2;
const SHORT_SEEDS: u64 = 8;
const SHORT_STEPS: u64 = 2_500;
/// Steps between two times that everything comes to rest and is compared.
const REST: u64 = 1_000;

/// Numbers that follow from a seed (splitmix64).
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn entry(&mut self) -> Entry {
        let fault = match self.below(20) {
            0 => ledger::FAILS_HALFWAY,
            1 => ledger::UNREADABLE,
            _ => ledger::SOUND,
        };
        Entry { account: self.below(40) as u32, amount: self.below(1_000) as u32, fault }
    }
}

/// Says how to repeat a run that panics.
struct Replay {
    seed: u64,
    steps: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat this run: make simulate SEED={} STEPS={}", self.seed, self.steps);
        }
    }
}

/// What happened in a run; a simulation in which nothing goes wrong proves nothing.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    events: u64,
    commits: u64,
    failed_commits: u64,
    stuck_publishers: u64,
    moved: u64,
    lost: u64,
    crashes: u64,
    exhausted: u64,
    shed: u64,
    direct: u64,
    rolled_back: u64,
    parsed_by_workers: u64,
    read_by_senders: u64,
}

struct World {
    random: Random,
    broker: Broker,
    nodes: Vec<Node>,
    owners: Vec<usize>,
    executors: Executors,
    tally: Tally,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let executors = if random.below(2) == 0 { Executors::Pinned } else { Executors::WorkStealing };
        let mut world = World {
            random,
            broker: Broker::default(),
            nodes: (0..NODES).map(|_| Node::new(executors)).collect(),
            owners: vec![0; PARTITIONS as usize],
            executors,
            tally: Tally::default(),
        };
        for partition in 0..PARTITIONS {
            world.nodes[0].assign(&mut world.broker, partition);
        }
        world
    }

    fn step(&mut self) {
        let partition = self.random.below(u64::from(PARTITIONS)) as u32;
        let node = self.random.below(NODES as u64) as usize;
        let owner = self.owners[partition as usize];
        let few = 1 + self.random.below(16) as usize;
        for node in &mut self.nodes {
            node.reset_if_asked(&mut self.broker);
        }
        match self.random.below(1_000) {
            0..180 => self.append(partition, few),
            180..190 => self.append(partition, 300),
            190..400 => self.nodes[owner].fetch(&self.broker, partition, 2 * few),
            400..560 => self.nodes[node].run(4 * few),
            560..640 => self.nodes[node].work(few),
            640..780 => {
                self.nodes[node].publish(&mut self.broker, 4 * few, false);
            }
            780..850 => self.nodes[node].ask_for_cut(),
            850..935 => self.nodes[node].send(&mut self.random, few),
            935..945 => self.nodes[node].send(&mut self.random, 400),
            945..960 => {
                self.nodes[node].publish(&mut self.broker, usize::MAX, true);
                self.tally.failed_commits += 1;
            }
            960..970 => {
                self.nodes[node].stick();
                self.tally.stuck_publishers += 1;
            }
            970..985 => self.hand_over(partition, false),
            985..994 => self.hand_over(partition, true),
            _ => self.crash(node),
        }
    }

    fn append(&mut self, partition: u32, count: usize) {
        for _ in 0..count {
            let entry = self.random.entry();
            self.broker.append(partition, &entry);
        }
    }

    /// A partition changes its owner: given up in order, or lost before what was applied could be committed.
    fn hand_over(&mut self, partition: u32, lost: bool) {
        let from = self.owners[partition as usize];
        let to = (from + 1) % NODES;
        if lost {
            self.nodes[from].lose(&mut self.broker, partition);
            self.tally.lost += 1;
        } else {
            self.nodes[from].revoke(&mut self.broker, partition);
            self.tally.moved += 1;
        }
        self.nodes[to].assign(&mut self.broker, partition);
        self.owners[partition as usize] = to;
    }

    /// An engine is gone with all that it had not committed; another one takes its partitions.
    fn crash(&mut self, node: usize) {
        self.account_for(node);
        self.nodes[node] = Node::new(self.executors);
        for partition in (0..PARTITIONS).filter(|partition| self.owners[*partition as usize] == node) {
            self.nodes[node].assign(&mut self.broker, partition);
        }
        self.tally.crashes += 1;
    }

    /// Lets everything come to rest and compares it with the model.
    fn rest(&mut self) {
        for _ in 0..10_000 {
            if self.broker.is_consumed() && self.nodes.iter().all(Node::is_settled) {
                break;
            }
            for (index, node) in self.nodes.iter_mut().enumerate() {
                node.reset_if_asked(&mut self.broker);
                for partition in (0..PARTITIONS).filter(|partition| self.owners[*partition as usize] == index)
                {
                    node.fetch(&self.broker, partition, 8);
                }
                node.come_to_rest(&mut self.broker);
            }
        }
        assert!(self.broker.is_consumed(), "everything is applied and committed in the end");
        self.broker.compare();
        self.nodes.iter().for_each(Node::assert_at_rest);
    }

    fn account_for(&mut self, node: usize) {
        let figures = self.nodes[node].figures();
        self.tally.exhausted += figures.exhausted;
        self.tally.shed += figures.shed;
        self.tally.direct += figures.direct;
        self.tally.rolled_back += figures.rolled_back;
        self.tally.parsed_by_workers += figures.parsed_by_workers;
        self.tally.read_by_senders += figures.read_by_senders;
    }
}

fn simulate(seed: u64, steps: u64) -> Tally {
    let _replay = Replay { seed, steps };
    let mut world = World::new(seed);
    for step in 1..=steps {
        world.step();
        if step % REST == 0 {
            world.rest();
        }
    }
    world.rest();
    (0..NODES).for_each(|node| world.account_for(node));
    world.tally.events = world.broker.events();
    world.tally.commits = world.broker.commits();
    world.tally
}

/// A number from the environment, as `make simulate` gives it.
fn given(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|error: std::num::ParseIntError| refuse(name, &text, error)))
}

fn refuse(name: &str, text: &str, error: impl Display) -> ! {
    panic!("{name}={text} is no whole number: {error}")
}

#[test]
fn outputs_offsets_and_changelog_are_those_of_the_model_whatever_fails() {
    if let Some(seed) = given("SEED") {
        let steps = given("STEPS").unwrap_or(200_000);
        println!("seed {seed}, {steps} steps: {:?}", simulate(seed, steps));
        return;
    }
    let tallies: Vec<Tally> = (1..=SHORT_SEEDS).map(|seed| simulate(seed, SHORT_STEPS)).collect();
    let faults = |count: fn(&Tally) -> u64| tallies.iter().map(count).sum::<u64>();
    for (what, count) in [
        ("commits", faults(|tally| tally.commits)),
        ("failed commits", faults(|tally| tally.failed_commits)),
        ("stuck publishers", faults(|tally| tally.stuck_publishers)),
        ("moved partitions", faults(|tally| tally.moved)),
        ("lost partitions", faults(|tally| tally.lost)),
        ("crashes", faults(|tally| tally.crashes)),
        ("exhausted pools", faults(|tally| tally.exhausted)),
        ("shed events", faults(|tally| tally.shed)),
        ("direct events", faults(|tally| tally.direct)),
        ("events parsed by workers", faults(|tally| tally.parsed_by_workers)),
        ("events read by their senders", faults(|tally| tally.read_by_senders)),
        ("rollbacks", faults(|tally| tally.rolled_back)),
    ] {
        assert!(count > 0, "no {what} in the short form: it proves less than it says");
    }
}
