//! Folding: any sequence of writes to one document becomes one write with the same effect, or says that it cannot.
//!
//! What is known to be there decides what comes after it: an increment of a value that was put is a value, a path through a number is a
//! path through nothing. Only one thing has no write of its own: that a map is there with nothing in it, which is what remains when all
//! that made a map is removed again. Then the later write goes on its own, as it does when there are more transforms than a request may
//! hold.

use super::{Change, MAX_TRANSFORMS, Node, Transform, Tree, creates, every, transform};
use crate::document::Value;

/// Says that two writes have no write that does what both do.
struct Apart;

impl Change {
    /// Adds `later` behind what this write does.
    ///
    /// # Errors
    /// `later` itself if no single write does both; this one is as it was then.
    pub fn then(&mut self, later: Self) -> Result<(), Self> {
        let Self::Patch(tree) = later else {
            *self = later;
            return Ok(());
        };
        let is_plain = |node: &Node| matches!(node, Node::Put(_));
        // Values alone always fold, so nothing has to be kept for them.
        let backup = (!every(&tree, &is_plain)).then(|| (self.clone(), tree.clone()));
        let folded = match self {
            Self::Replace(whole) => {
                fill(whole, tree);
                Ok(())
            }
            Self::Patch(before) => merge(before, tree, true),
            Self::Delete => {
                let mut whole = Tree::new();
                fill(&mut whole, tree);
                *self = Self::Replace(whole);
                Ok(())
            }
        };
        match backup {
            Some((before, tree)) if folded.is_err() || self.transforms() > MAX_TRANSFORMS => {
                *self = before;
                Err(Self::Patch(tree))
            }
            _ => Ok(()),
        }
    }
}

/// Does `later` to a map of which everything is known.
fn fill(whole: &mut Tree, later: Tree) {
    for (name, node) in later {
        let before = whole.remove(&name).unwrap_or(Node::Remove);
        match known(before, node) {
            Node::Remove => {}
            after => drop(whole.insert(name, after)),
        }
    }
}

/// Does `later` to a field of which everything is known: it was put, or removed.
fn known(before: Node, later: Node) -> Node {
    match (before, later) {
        (Node::Put(value), Node::Transforms(list)) => Node::Put(transform::apply_all(&list, Some(&value))),
        // A map, a time and nothing are neither number nor list.
        (_, Node::Transforms(list)) => Node::Put(transform::apply_all(&list, None)),
        (Node::Whole(mut whole), Node::Within(tree)) => {
            fill(&mut whole, tree);
            Node::Whole(whole)
        }
        (_, Node::Within(tree)) if creates(&tree) => {
            let mut whole = Tree::new();
            fill(&mut whole, tree);
            Node::Whole(whole)
        }
        // There is nothing to remove in what is no map.
        (before, Node::Within(_)) => before,
        (_, later) => later,
    }
}

/// Does `later` to a map of which only what `before` did is known; the map is the document itself if `is_document`.
fn merge(before: &mut Tree, later: Tree, is_document: bool) -> Result<(), Apart> {
    let made = creates(before);
    for (name, node) in later {
        let after = match before.remove(&name) {
            Some(earlier) => join(earlier, node)?,
            None => node,
        };
        before.insert(name, after);
    }
    // It was made a map, and nothing is left that says so.
    if made && !is_document && !creates(before) { Err(Apart) } else { Ok(()) }
}

/// Does `later` to a field of which only what `before` did is known.
fn join(before: Node, later: Node) -> Result<Node, Apart> {
    Ok(match (before, later) {
        (Node::Within(mut tree), Node::Within(more)) => {
            merge(&mut tree, more, false)?;
            Node::Within(tree)
        }
        (Node::Within(tree), Node::Transforms(list)) if creates(&tree) => {
            Node::Put(transform::apply_all(&list, None))
        }
        (Node::Within(_), later) => later,
        (Node::Transforms(list), Node::Transforms(more)) => chain(list, more),
        (Node::Transforms(list), Node::Within(tree)) if !creates(&tree) => Node::Transforms(list),
        // A number or a list: no map, and neither of it is what is put.
        (Node::Transforms(_), later) => known(Node::Put(Value::Null), later),
        (before, later) => known(before, later),
    })
}

fn chain(mut list: Vec<Transform>, more: Vec<Transform>) -> Node {
    let kind = |list: &[Transform]| list.first().map(Transform::is_of_numbers);
    if kind(&list) != kind(&more) {
        return Node::Put(transform::apply_all(&more, None));
    }
    more.into_iter().for_each(|transform| transform::push(&mut list, transform));
    Node::Transforms(list)
}
