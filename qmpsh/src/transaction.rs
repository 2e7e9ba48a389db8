//! Transactions that are written as lines: `transaction(`, a line for each action, and `)`.

use qemu_machine_blocking::Schema;
use qemu_machine_blocking::core::schema::Shape;

use crate::split::{Unfinished, Word, cut, joined};

/// The beginning of a transaction.
pub(crate) const OPEN: &str = "transaction(";

/// The text after [`OPEN`]: the words of each action, and whether the transaction is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) actions: Vec<Vec<Word>>,
    pub(crate) is_closed: bool,
}

/// Splits the text after [`OPEN`]. An action begins on a new line; the first one may follow the bracket, and the closing
/// bracket is a word of its own, the last one. A line that begins with `#` is a comment.
///
/// # Errors
///
/// [`Unfinished`], if a quote or a bracket of a value is not closed.
pub(crate) fn split(body: &str) -> Result<Draft, Unfinished> {
    let mut words = cut(body)?;
    let is_closed = words.last().is_some_and(|word| word.key == ")" && word.value.is_none());
    if is_closed {
        words.pop();
    }
    let (mut actions, mut end): (Vec<Vec<Word>>, usize) = (Vec::new(), 0);
    for word in words {
        let is_on_new_line = body[end..word.at.start].contains('\n');
        end = word.at.end;
        match actions.last_mut() {
            Some(action) if !is_on_new_line => action.push(word),
            _ => actions.push(vec![word]),
        }
    }
    Ok(Draft { actions, is_closed })
}

/// Reports whether lines begin a transaction that is not closed, also when an action of it is not valid.
pub(crate) fn is_open(lines: &str) -> bool {
    let Some(body) = lines.trim_start().strip_prefix(OPEN) else { return false };
    !joined(body).and_then(|body| split(&body)).is_ok_and(|draft| draft.is_closed)
}

/// Returns the shape of an action: an object with its `type` and its `data` (QEMU, `qapi/transaction.json`,
/// `TransactionAction`). `None` means that the schema has no transactions.
pub(crate) fn action(schema: &Schema) -> Option<Shape<'_>> {
    let actions = schema.arguments("transaction")?.members().find(|member| member.name == "actions")?;
    actions.shape.element()
}

/// Returns the names of the actions.
pub(crate) fn names(schema: &Schema) -> Vec<&str> {
    let kind = action(schema).and_then(|action| action.members().find(|member| member.name == "type"));
    kind.map(|kind| kind.shape.values().collect()).unwrap_or_default()
}

/// Returns the shape of the data of an action. `None` means that the schema does not have the action.
pub(crate) fn data<'a>(schema: &'a Schema, name: &str) -> Option<Shape<'a>> {
    let data = action(schema)?.members_with(Some(name)).find(|member| member.name == "data")?;
    Some(data.shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the words of each action, and whether the transaction is closed.
    fn drafted(body: &str) -> (Vec<Vec<String>>, bool) {
        let Draft { actions, is_closed } = split(body).unwrap();
        let words = |action: Vec<Word>| action.iter().map(|word| body[word.at.clone()].to_owned()).collect();
        (actions.into_iter().map(words).collect(), is_closed)
    }

    fn lists(lists: &[&[&str]]) -> Vec<Vec<String>> {
        lists.iter().map(|list| list.iter().map(|word| (*word).to_owned()).collect()).collect()
    }

    #[test]
    fn an_action_begins_on_a_new_line() {
        assert_eq!(drafted("\nabort\nbackup a=1\n  b=2"), (lists(&[&["abort"], &["backup", "a=1"], &["b=2"]]), false));
        assert_eq!(drafted(" abort )"), (lists(&[&["abort"]]), true));
        assert_eq!(drafted("\nabort\n)\n"), (lists(&[&["abort"]]), true));
        assert_eq!(drafted("\n)"), (lists(&[]), true));
        assert_eq!(drafted(""), (lists(&[]), false));
    }

    #[test]
    fn a_line_in_a_transaction_may_be_a_comment() {
        assert_eq!(drafted("\n# a remark\nabort\n  # it's )\n)"), (lists(&[&["abort"]]), true));
        assert_eq!(drafted("\nabort #a\n# )"), (lists(&[&["abort", "#a"]]), false));
        assert_eq!(drafted("\nback a='\n# text'\n)"), (lists(&[&["back", "a='\n# text'"]]), true));
    }

    #[test]
    fn a_transaction_is_open_up_to_its_bracket() {
        for open in ["transaction(", " transaction(\nabrot", "transaction(\n# )", "transaction(\n# \\\nabort \\\n"] {
            assert!(is_open(open), "{open}");
        }
        for closed in ["", "abort", "transaction( abrot )", "transaction(\nabrot\n)\n", "transaction(\n# \\\n)"] {
            assert!(!is_open(closed), "{closed}");
        }
    }

    #[test]
    fn a_value_may_extend_over_several_lines_and_contain_brackets() {
        assert_eq!(drafted("\nback a={\"b\":\n1}\n)"), (lists(&[&["back", "a={\"b\":\n1}"]]), true));
        assert_eq!(drafted("\nback a=')'"), (lists(&[&["back", "a=')'"]]), false));
        assert_eq!(split("\nback a={\n)"), Err(Unfinished));
    }
}
