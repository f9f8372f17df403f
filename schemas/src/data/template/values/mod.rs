//! Values as Python has them.

mod arithmetic;
mod comparison;
mod iteration;
mod kinds;
mod numbers;
mod objects;
pub(super) mod printf;
mod printing;
mod range;
mod slices;
pub(super) mod strings;
mod text;

pub(super) use self::arithmetic::arithmetic;
pub(super) use self::comparison::{compare, contains, equal, order, visit_key};
pub(super) use self::iteration::{Visits, items, iterable, visit_call, visit_text};
pub(super) use self::kinds::{is_list, is_no_dict, pairs, sequence, type_name};
pub(super) use self::numbers::{Number, integer, integer_value, number};
pub(super) use self::objects::{Generator, Group, PassedUndefined, View};
pub(super) use self::printing::{float_repr, string, write_repr, write_string};
pub(super) use self::range::Range;
pub(super) use self::slices::{indices, text_slice};
pub(super) use self::text::{MAX_TEXT, Text};
