//! What a Parquet file says of its schema, checked before the crate `parquet` builds it: that crate takes memory for as many
//! children as a group claims, and calls itself as deep as groups are nested.

use super::error::Reason;

/// Deepest nesting of groups; a list takes two.
const DEPTH: usize = 128;
/// Where the schema stands in the footer, and the number of children in its elements, by the ids of their fields.
const SCHEMA: i64 = 2;
const CHILDREN: i64 = 5;

const FALSE: u8 = 2;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// Checks the schema in the footer that a file's last bytes hold, without the length and the mark behind it.
pub(super) fn check(footer: &[u8]) -> Result<(), Reason> {
    let mut footer = Compact { bytes: footer };
    match footer.schema() {
        Some(true) => Ok(()),
        Some(false) => Err(damaged("its columns are nested too deeply, or are fewer than it says")),
        None => Err(damaged("its footer is damaged")),
    }
}

fn damaged(reason: &str) -> Reason {
    Reason::Damaged { format: "Parquet", reason: reason.into() }
}

/// Thrift's compact protocol, as far as it takes to find one list of structs.
struct Compact<'a> {
    bytes: &'a [u8],
}

/// Groups that are open, by the children that they still lack.
#[derive(Default)]
struct Tree(Vec<u64>);

impl Tree {
    /// Adds an element with so many children, of which no more than `left` can follow.
    fn add(&mut self, children: u64, left: u64) -> bool {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        if let Some(missing) = self.0.last_mut() {
            *missing -= 1;
        }
        self.0.push(children);
        children <= left && self.0.len() <= DEPTH
    }
}

impl Compact<'_> {
    /// Whether the schema is one that can be built.
    fn schema(&mut self) -> Option<bool> {
        let mut id = 0;
        loop {
            match self.field(&mut id)? {
                Some(LIST) if id == SCHEMA => break,
                Some(kind) => self.skip(kind, false, 0)?,
                None => return None,
            }
        }
        let (size, kind) = self.list()?;
        let mut tree = Tree::default();
        for left in (0..size).rev() {
            let children = if kind == STRUCT { self.children()? } else { return None };
            if !tree.add(children, left) {
                return Some(false);
            }
        }
        Some(true)
    }

    /// The number of children of a schema's element.
    fn children(&mut self) -> Option<u64> {
        let (mut id, mut children) = (0, 0);
        while let Some(kind) = self.field(&mut id)? {
            match id {
                CHILDREN => children = u64::try_from(self.signed()?).ok()?,
                _ => self.skip(kind, false, 0)?,
            }
        }
        Some(children)
    }

    /// The next field's kind, its id put into `id`; no kind at the struct's end.
    fn field(&mut self, id: &mut i64) -> Option<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Some(None);
        }
        *id = if head >> 4 == 0 { self.signed()? } else { id.checked_add(i64::from(head >> 4))? };
        Some(Some(head & 0x0f))
    }

    /// A list's size, and its elements' kind.
    fn list(&mut self) -> Option<(u64, u8)> {
        let head = self.byte()?;
        let size = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Some((size, head & 0x0f))
    }

    fn skip(&mut self, kind: u8, element: bool, depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        match kind {
            // In a struct, the kind is the value.
            0..=FALSE => self.take(u64::from(element)),
            3 => self.take(1),
            4..=6 => self.varint().map(drop),
            7 => self.take(8),
            8 => self.varint().and_then(|length| self.take(length)),
            LIST | 10 => {
                let (size, kind) = self.list()?;
                (0..size).try_for_each(|_| self.skip(kind, true, depth + 1))
            }
            11 => {
                let size = self.varint()?;
                let kinds = if size == 0 { 0 } else { self.byte()? };
                (0..size).try_for_each(|_| {
                    self.skip(kinds >> 4, true, depth + 1)?;
                    self.skip(kinds & 0x0f, true, depth + 1)
                })
            }
            STRUCT => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, false, depth + 1)?;
                }
                Some(())
            }
            13 => self.take(16),
            _ => None,
        }
    }

    fn take(&mut self, bytes: u64) -> Option<()> {
        self.bytes = self.bytes.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A whole number, its sign in the last bit.
    fn signed(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}
