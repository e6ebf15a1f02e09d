//! The bytes of a change. A node is its value, with kinds of its own beyond those of values.

use super::{Corrupt, MAX_DEPTH, Reader, Writer};
use crate::{
    change::{Change, Node, Number, Transform, Tree},
    document::Value,
};

const REPLACE: u8 = 1;
/// A merge of version 1: the fields whose leaves change.
const MERGE: u8 = 2;
const DELETE: u8 = 3;
const PATCH: u8 = 4;

/// As a map among values.
const WHOLE: u8 = 9;
const WITHIN: u8 = 10;
const REMOVE: u8 = 11;
const NOW: u8 = 12;
const TRANSFORMS: u8 = 13;

const INCREMENT: u8 = 1;
const MAXIMUM: u8 = 2;
const MINIMUM: u8 = 3;
const UNION: u8 = 4;
const SUBTRACT: u8 = 5;

impl Writer {
    /// Appends a change.
    pub fn change(&mut self, change: &Change) {
        match change {
            Change::Replace(tree) => {
                self.byte(REPLACE);
                self.tree(tree);
            }
            Change::Patch(tree) => {
                self.byte(PATCH);
                self.tree(tree);
            }
            Change::Delete => self.byte(DELETE),
        }
    }

    pub(super) fn tree(&mut self, tree: &Tree) {
        self.number(tree.len() as u64);
        for (name, node) in tree {
            self.text(name);
            self.node(node);
        }
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Put(value) => self.value(value),
            Node::Whole(tree) => {
                self.byte(WHOLE);
                self.tree(tree);
            }
            Node::Within(tree) => {
                self.byte(WITHIN);
                self.tree(tree);
            }
            Node::Remove => self.byte(REMOVE),
            Node::Now => self.byte(NOW),
            Node::Transforms(list) => {
                self.byte(TRANSFORMS);
                self.number(list.len() as u64);
                list.iter().for_each(|transform| self.transform(transform));
            }
        }
    }

    fn transform(&mut self, transform: &Transform) {
        match transform {
            Transform::Increment(number) => self.operand(INCREMENT, number.value()),
            Transform::Maximum(number) => self.operand(MAXIMUM, number.value()),
            Transform::Minimum(number) => self.operand(MINIMUM, number.value()),
            Transform::Union(values) => self.operand(UNION, Value::Array(values.clone())),
            Transform::Subtract(values) => self.operand(SUBTRACT, Value::Array(values.clone())),
        }
    }

    fn operand(&mut self, kind: u8, operand: Value) {
        self.byte(kind);
        self.value(&operand);
    }
}

impl Reader<'_> {
    /// Takes a change.
    ///
    /// # Errors
    /// [`Corrupt`] if there is none.
    pub fn change(&mut self) -> Result<Change, Corrupt> {
        Ok(match self.byte()? {
            REPLACE => Change::Replace(self.tree(0)?),
            MERGE => Change::merge(self.fields()?),
            DELETE => Change::Delete,
            PATCH => Change::Patch(self.tree(0)?),
            _ => return Err(self.corrupt()),
        })
    }

    fn tree(&mut self, depth: usize) -> Result<Tree, Corrupt> {
        if depth > MAX_DEPTH {
            return Err(self.corrupt());
        }
        let count = self.number()?;
        let mut tree = Tree::new();
        for _ in 0..count {
            let name = self.text()?.to_owned();
            tree.insert(name, self.node(depth)?);
        }
        Ok(tree)
    }

    fn node(&mut self, depth: usize) -> Result<Node, Corrupt> {
        Ok(match self.peek()? {
            WHOLE => Node::Whole(self.below(depth)?),
            WITHIN => Node::Within(self.below(depth)?),
            REMOVE => self.skip(Node::Remove)?,
            NOW => self.skip(Node::Now)?,
            TRANSFORMS => {
                self.byte()?;
                let count = self.number()?;
                Node::Transforms((0..count).map(|_| self.transform()).collect::<Result<_, _>>()?)
            }
            _ => Node::Put(self.value_at(depth)?),
        })
    }

    fn below(&mut self, depth: usize) -> Result<Tree, Corrupt> {
        self.byte()?;
        self.tree(depth + 1)
    }

    fn skip(&mut self, node: Node) -> Result<Node, Corrupt> {
        self.byte().map(|_| node)
    }

    fn peek(&self) -> Result<u8, Corrupt> {
        self.bytes.get(self.at).copied().ok_or_else(|| self.corrupt())
    }

    fn transform(&mut self) -> Result<Transform, Corrupt> {
        let kind = self.byte()?;
        let operand = self.value_at(0)?;
        let number = Number::of(&operand);
        match (kind, number, operand) {
            (INCREMENT, Some(number), _) => Ok(Transform::Increment(number)),
            (MAXIMUM, Some(number), _) => Ok(Transform::Maximum(number)),
            (MINIMUM, Some(number), _) => Ok(Transform::Minimum(number)),
            (UNION, _, Value::Array(values)) => Ok(Transform::Union(values)),
            (SUBTRACT, _, Value::Array(values)) => Ok(Transform::Subtract(values)),
            _ => Err(self.corrupt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        change::{Change, Node, Number, Transform, Tree},
        codec::{Reader, Record, Writer},
        document::{Fields, Value},
    };

    /// A record of version 1, as it was written before there were transforms: normal priority, accepted at 5, `t/c/d`.
    fn old(change: &[u8]) -> Vec<u8> {
        [&[1, 0, 10, 0, 1, b't', 1, b'c', 1, b'd'][..], change].concat()
    }

    #[test]
    fn records_that_waited_while_the_version_changed_mean_what_they_meant() {
        let inner = Fields::from([("n".to_owned(), Value::Integer(1))]);
        let empty = ("e".to_owned(), Value::Map(Fields::new()));
        let fields = Fields::from([("m".to_owned(), Value::Map(inner)), empty]);
        let bytes = [2, 1, b'e', 9, 0, 1, b'm', 9, 1, 1, b'n', 3, 2];
        for (kind, meant) in [(1, Change::set(fields.clone())), (2, Change::merge(fields))] {
            let record = Record::decode(&old(&[&[kind], &bytes[..]].concat())).unwrap();
            assert_eq!((record.accepted, &*record.key.id, record.change), (5, "d", meant));
        }
        assert_eq!(Record::decode(&old(&[3])).unwrap().change, Change::Delete);
        assert!(Record::decode(&old(&[5])).is_err());
    }

    #[test]
    fn every_kind_of_node_comes_back_and_nothing_cut_does() {
        let list = || vec![Value::Integer(1), Value::Map(Fields::new())];
        let transforms = |list| Node::Transforms(list);
        let inner = Tree::from([
            ("now".to_owned(), Node::Now),
            ("put".to_owned(), Node::Put(Value::Array(list()))),
            ("whole".to_owned(), Node::Whole(Tree::from([("deep".to_owned(), Node::Now)]))),
        ]);
        let extremes = [Number::Double(0.5), Number::Integer(-1)];
        let tree = Tree::from([
            ("0x12".to_owned(), Node::Within(inner)),
            ("gone".to_owned(), Node::Remove),
            ("sum".to_owned(), transforms(vec![Transform::Increment(Number::Integer(i64::MIN))])),
            (
                "range".to_owned(),
                transforms(vec![Transform::Maximum(extremes[0]), Transform::Minimum(extremes[1])]),
            ),
            ("list".to_owned(), transforms(vec![Transform::Subtract(list()), Transform::Union(list())])),
        ]);
        for change in [Change::Patch(tree.clone()), Change::Replace(tree), Change::Delete] {
            let mut writer = Writer::new();
            writer.change(&change);
            let bytes = writer.finish();
            assert_eq!(Reader::new(&bytes).unwrap().change(), Ok(change));
            for end in 1..bytes.len() {
                assert!(Reader::new(&bytes[..end]).unwrap().change().is_err(), "cut at {end}");
            }
        }
    }
}
