//! The bounded tree: any JSON document as nodes in an array that was made before the first payload.
//!
//! Owns the nodes. They lie in the document's order: a container, then all that is in it,
//! each member as its key and its value; a node says where the next one beside it is. A
//! document with more nodes than there is room for is refused; nothing is allocated. A key
//! that stands twice in one object is a fault here, too: keys are kept in a hash table as
//! long as twice the nodes, emptied by counting the payloads.

use super::refusal::{Reason, Refusal};
use super::scanner::{DEPTH_MAX, Limits, RawNumber, Scanner, check_utf8};
use super::string::RawString;

/// Nodes that one document may have: values and keys.
pub const TREE_NODES_MAX: usize = 8_192;

/// What stands at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// The null value.
    Null,
    /// True or false.
    Bool,
    /// A number.
    Number,
    /// Text.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    kind: NodeKind,
    /// Of a string: whether there are escapes in it. Of a truth value: which.
    mark: bool,
    /// First byte in the payload; of a string the one behind the quote.
    start: u32,
    /// Bytes of a scalar; members or items of a container.
    length: u32,
    /// The node behind everything that belongs to this one.
    next: u32,
}

const NO_NODE: Node = Node { kind: NodeKind::Null, mark: false, start: 0, length: 0, next: 0 };

/// Place of a key in the table of keys.
#[derive(Debug, Clone, Copy)]
struct Place {
    payload: u32,
    object: u32,
    key: u32,
}

/// Reads documents into trees.
#[derive(Debug, Clone)]
pub struct TreeParser {
    limits: Limits,
    nodes: Box<[Node]>,
    places: Box<[Place]>,
    payload: u32,
    scratch: Box<[u8]>,
}

/// A document.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    nodes: &'a [Node],
    bytes: &'a [u8],
}

/// One value of a document.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    tree: Tree<'a>,
    node: usize,
}

/// A container that is being read.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    node: usize,
    object: bool,
}

impl TreeParser {
    /// A parser with room for documents of at most `nodes` values and keys.
    pub fn new(limits: Limits, nodes: usize) -> TreeParser {
        let places = (nodes * 2).next_power_of_two();
        TreeParser {
            limits,
            nodes: vec![NO_NODE; nodes].into(),
            places: vec![Place { payload: 0, object: 0, key: 0 }; places].into(),
            payload: 0,
            scratch: vec![0; limits.string_bytes].into(),
        }
    }

    /// Reads a document.
    ///
    /// # Errors
    /// The first fault, with its byte position.
    pub fn parse<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Tree<'a>, Refusal> {
        if bytes.len() > self.limits.bytes {
            return Err(Refusal::new(Reason::TooLarge, self.limits.bytes));
        }
        check_utf8(bytes)?;
        self.forget_keys();
        let mut scanner = Scanner::new(bytes, self.limits);
        let mut count = 0;
        let mut stack = [Open::default(); DEPTH_MAX as usize + 1];
        let mut depth = 0;
        let mut opened = self.value(&mut scanner, bytes, &mut count)?;
        loop {
            if let Some(open) = opened.take() {
                depth += 1;
                stack[depth] = open;
            }
            if depth == 0 {
                break;
            }
            let Open { node, object } = stack[depth];
            let next = scanner.peek();
            if next == if object { b'}' } else { b']' } {
                scanner.expect(next)?;
                scanner.ascend();
                self.nodes[node].next = count as u32;
                depth -= 1;
                continue;
            }
            if self.nodes[node].length > 0 {
                scanner.expect(b',')?;
                scanner.peek();
            }
            if !object && self.nodes[node].length >= self.limits.array_length {
                return scanner.refuse(Reason::TooLarge);
            }
            self.nodes[node].length += 1;
            if object {
                scanner.peek();
                let position = scanner.position();
                let key = scanner.string()?;
                let added = self.add(&scanner, &mut count, string_node(bytes, &key))?;
                if !self.remember(bytes, node, added, &key) {
                    return Err(Refusal::new(Reason::DuplicateKey, position));
                }
                scanner.expect(b':')?;
            }
            opened = self.value(&mut scanner, bytes, &mut count)?;
        }
        scanner.expect_end()?;
        Ok(Tree { nodes: &self.nodes[..count], bytes })
    }

    /// Adds a node. Nothing is stored that there is no room for.
    fn add(&mut self, scanner: &Scanner<'_>, count: &mut usize, node: Node) -> Result<usize, Refusal> {
        let index = *count;
        let Some(place) = self.nodes.get_mut(index) else { return scanner.refuse(Reason::TooLarge) };
        *place = Node { next: index as u32 + 1, ..node };
        *count += 1;
        Ok(index)
    }

    /// Takes a scalar, or opens a container and says which.
    fn value(
        &mut self,
        scanner: &mut Scanner<'_>,
        bytes: &[u8],
        count: &mut usize,
    ) -> Result<Option<Open>, Refusal> {
        let first = scanner.peek();
        let start = scanner.position() as u32;
        let node = match first {
            b'{' | b'[' => {
                scanner.descend()?;
                let object = first == b'{';
                let kind = if object { NodeKind::Object } else { NodeKind::Array };
                let node = self.add(scanner, count, Node { kind, start, ..NO_NODE })?;
                scanner.expect(first)?;
                return Ok(Some(Open { node, object }));
            }
            b'"' => string_node(bytes, &scanner.string()?),
            b'-' | b'0'..=b'9' => {
                let length = scanner.number()?.bytes.len() as u32;
                Node { kind: NodeKind::Number, start, length, ..NO_NODE }
            }
            _ => {
                let value = scanner.literal()?;
                let kind = if value.is_some() { NodeKind::Bool } else { NodeKind::Null };
                Node { kind, mark: value == Some(true), start, ..NO_NODE }
            }
        };
        self.add(scanner, count, node)?;
        Ok(None)
    }

    /// Begins a new payload: what the table holds belongs to former ones.
    fn forget_keys(&mut self) {
        self.payload = self.payload.wrapping_add(1);
        if self.payload == 0 {
            self.places.fill(Place { payload: 0, object: 0, key: 0 });
            self.payload = 1;
        }
    }

    /// Remembers a key of an object; false if the object has it already.
    fn remember(&mut self, bytes: &[u8], object: usize, added: usize, key: &RawString<'_>) -> bool {
        let TreeParser { nodes, places, payload, scratch, .. } = self;
        let Some(text) = key.unescape(scratch) else { return false };
        let mut place = hash(object, text.as_bytes()) as usize & (places.len() - 1);
        // Half of the places are free, so the walk ends.
        while places[place].payload == *payload {
            let other = &nodes[places[place].key as usize];
            if places[place].object == object as u32 && raw_string(other, bytes).is(text.as_bytes()) {
                return false;
            }
            place = (place + 1) & (places.len() - 1);
        }
        places[place] = Place { payload: *payload, object: object as u32, key: added as u32 };
        true
    }
}

/// FNV-1a over the object and the key. A sender who aims at one place pays with the bytes of a whole key for each step.
fn hash(object: usize, key: &[u8]) -> u64 {
    let seed = 0xCBF2_9CE4_8422_2325 ^ (object as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let hash = key.iter().fold(seed, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3));
    hash ^ hash >> 32
}

fn string_node(bytes: &[u8], string: &RawString<'_>) -> Node {
    let start = string.bytes().as_ptr().addr() - bytes.as_ptr().addr();
    Node {
        kind: NodeKind::String,
        mark: string.is_escaped(),
        start: start as u32,
        length: string.bytes().len() as u32,
        next: 0,
    }
}

fn raw_string<'a>(node: &Node, bytes: &'a [u8]) -> RawString<'a> {
    RawString::new(&bytes[node.start as usize..][..node.length as usize], node.mark)
}

impl<'a> Tree<'a> {
    /// The whole document.
    pub fn root(self) -> Value<'a> {
        Value { tree: self, node: 0 }
    }
}

impl<'a> Value<'a> {
    fn node(&self) -> &'a Node {
        &self.tree.nodes[self.node]
    }

    /// What it is.
    pub fn kind(&self) -> NodeKind {
        self.node().kind
    }

    /// Its first byte's position in the payload; of a string the one behind the quote.
    pub fn position(&self) -> usize {
        self.node().start as usize
    }

    /// Whether it is true, if it is a truth value.
    pub fn flag(&self) -> Option<bool> {
        (self.kind() == NodeKind::Bool).then_some(self.node().mark)
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<RawNumber<'a>> {
        let node = self.node();
        let bytes = &self.tree.bytes[node.start as usize..][..node.length as usize];
        (node.kind == NodeKind::Number).then(|| RawNumber {
            bytes,
            integer: !bytes.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')),
        })
    }

    /// The text, if it is one.
    pub fn string(&self) -> Option<RawString<'a>> {
        (self.kind() == NodeKind::String).then(|| raw_string(self.node(), self.tree.bytes))
    }

    /// The items of an array; nothing for other values.
    pub fn items(&self) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let (tree, length) = (self.tree, self.length_as(NodeKind::Array));
        let mut node = self.node + 1;
        (0..length).map(move |_| {
            let item = Value { tree, node };
            node = item.node().next as usize;
            item
        })
    }

    /// The members of an object; nothing for other values.
    pub fn members(&self) -> impl Iterator<Item = (RawString<'a>, Value<'a>)> + use<'a> {
        let (tree, length) = (self.tree, self.length_as(NodeKind::Object));
        let mut node = self.node + 1;
        (0..length).map(move |_| {
            let value = Value { tree, node: node + 1 };
            let key = raw_string(&tree.nodes[node], tree.bytes);
            node = value.node().next as usize;
            (key, value)
        })
    }

    fn length_as(&self, kind: NodeKind) -> u32 {
        if self.kind() == kind { self.node().length } else { 0 }
    }
}
