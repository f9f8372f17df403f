//! Values of Python that the engine does not have: views of dicts, generators, groups, and arguments that are undefined.

use std::sync::{Arc, Mutex, PoisonError};

use minijinja::Value;
use minijinja::value::{Enumerator, Object, ObjectRepr};

/// What `dict.keys()`, `values()` and `items()` give.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) name: &'static str,
    pub(crate) items: Vec<Value>,
}

impl Object for View {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }
}

/// What `map`, `select` and the like give: something to go through once.
#[derive(Debug)]
pub(crate) struct Generator(Mutex<Vec<Value>>);

impl Generator {
    /// A generator of these values.
    pub(crate) fn value(mut items: Vec<Value>) -> Value {
        items.reverse();
        Value::from_object(Generator(Mutex::new(items)))
    }

    fn next(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// What is still to come, taken from it.
    pub(crate) fn rest(&self) -> Vec<Value> {
        let mut items = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        items.reverse();
        items
    }

    /// Looks at what is still to come, the last first, and leaves it there.
    pub(crate) fn inspect<E>(&self, look: impl FnMut(&Value) -> Result<(), E>) -> Result<(), E> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().try_for_each(look)
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let this = self.clone();
        Enumerator::Iter(Box::new(std::iter::from_fn(move || this.next())))
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// What `groupby` gives: a pair that also has its halves as attributes.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) key: Value,
    pub(crate) members: Value,
}

impl Object for Group {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match (key.as_str(), key.as_usize()) {
            (Some("grouper"), _) | (None, Some(0)) => Some(self.key.clone()),
            (Some("list"), _) | (None, Some(1)) => Some(self.members.clone()),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(2)
    }
}

/// What is undefined while it is passed to a macro, which the engine takes for an argument that is not passed.
#[derive(Debug)]
pub(crate) struct PassedUndefined;

impl Object for PassedUndefined {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}
