//! Shortest paths by Dial's buckets.
//!
//! Weights are bytes, so that at any moment the distances that wait lie within 256 of
//! the least one: 256 buckets in a circle are a priority queue. The buckets are lists
//! through arrays of one entry a vertex, made at construction; a search allocates nothing
//! and ends when its budget of vertices is used up.

const NONE: u32 = u32::MAX;
const BUCKETS: usize = 256;

/// A graph as a search sees it.
pub trait Adjacent {
    /// Calls `body` with target and weight of each edge that leaves a vertex.
    fn each_edge(&self, vertex: u32, body: impl FnMut(u32, u8));
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The sum of weights along the shortest path.
    Distance(u32),
    /// No path leads there.
    Unreachable,
    /// The search ended at its bound before it knew.
    BeyondLimit,
}

/// Memory for searches over vertices below a bound.
pub struct Paths {
    distance: Box<[u32]>,
    next: Box<[u32]>,
    before: Box<[u32]>,
    touched: Vec<u32>,
    heads: [u32; BUCKETS],
}

impl std::fmt::Debug for Paths {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Paths").field("vertices", &self.distance.len()).finish()
    }
}

impl Paths {
    /// Memory for vertices `0..vertices`; 16 bytes each.
    pub fn new(vertices: u32) -> Paths {
        let per_vertex = || vec![NONE; vertices as usize].into_boxed_slice();
        Paths {
            distance: per_vertex(),
            next: per_vertex(),
            before: per_vertex(),
            touched: Vec::with_capacity(vertices as usize),
            heads: [NONE; BUCKETS],
        }
    }

    /// Number of vertices; greater ones are no part of any path.
    pub fn vertices(&self) -> u32 {
        self.distance.len() as u32
    }

    /// Length of the shortest path. Looks at the edges of `budget` vertices at most, and takes those that it looked
    /// at off the budget, so that several searches may share one.
    pub fn shortest(&mut self, graph: &impl Adjacent, source: u32, target: u32, budget: &mut u32) -> Path {
        if source.max(target) >= self.vertices() {
            return Path::Unreachable;
        }
        let path = self.search(graph, source, target, budget);
        for vertex in self.touched.drain(..) {
            self.distance[vertex as usize] = NONE;
        }
        self.heads = [NONE; BUCKETS];
        path
    }

    fn search(&mut self, graph: &impl Adjacent, source: u32, target: u32, budget: &mut u32) -> Path {
        let mut waiting = 0_u32;
        let mut least = 0_u32;
        self.reach(source, 0, &mut waiting);
        while waiting > 0 {
            while self.heads[least as usize % BUCKETS] == NONE {
                least += 1;
            }
            let vertex = self.heads[least as usize % BUCKETS];
            if vertex == target {
                return Path::Distance(least);
            }
            match budget.checked_sub(1) {
                Some(left) => *budget = left,
                None => return Path::BeyondLimit,
            }
            self.unlink(vertex);
            waiting -= 1;
            graph.each_edge(vertex, |neighbour, weight| {
                if neighbour < self.vertices() {
                    self.reach(neighbour, least + u32::from(weight), &mut waiting);
                }
            });
        }
        Path::Unreachable
    }

    /// Puts a vertex into its bucket, unless a path as short is known.
    fn reach(&mut self, vertex: u32, distance: u32, waiting: &mut u32) {
        let known = self.distance[vertex as usize];
        if known <= distance {
            // A settled vertex always ends here: nothing that is found later is nearer. So does one
            // that nothing is known of if the distance were 2^32 - 1, which takes 2^24 vertices.
            return;
        }
        if known == NONE {
            self.touched.push(vertex);
            *waiting += 1;
        } else {
            self.unlink(vertex);
        }
        self.distance[vertex as usize] = distance;
        let head = &mut self.heads[distance as usize % BUCKETS];
        let after = std::mem::replace(head, vertex);
        self.next[vertex as usize] = after;
        self.before[vertex as usize] = NONE;
        if after != NONE {
            self.before[after as usize] = vertex;
        }
    }

    fn unlink(&mut self, vertex: u32) {
        let (before, after) = (self.before[vertex as usize], self.next[vertex as usize]);
        match before {
            NONE => self.heads[self.distance[vertex as usize] as usize % BUCKETS] = after,
            before => self.next[before as usize] = after,
        }
        if after != NONE {
            self.before[after as usize] = before;
        }
    }
}
