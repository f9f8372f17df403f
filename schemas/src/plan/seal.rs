//! A plan's id and checksum: what they cover, and how they are computed.
//! The recipe stands in the docs of [`plan`](crate::plan).

use std::path::Path;

use serde_json::json;

use crate::canonical;
use crate::digest::Digest;
use crate::plan::{Plan, PlanError};

impl Plan {
    /// Sets `id` and `checksum` from the rest.
    pub fn seal(&mut self) {
        self.id = self.derive_id();
        self.checksum = self.derive_checksum();
    }

    fn derive_id(&self) -> Digest {
        let mut bound = json!({
            "version": self.version,
            "model": self.model,
            "data": self.data,
            "method": self.method,
            "frost_line": self.decision.frost_line,
            "tensors": self.tensors,
        });
        let optional = [
            ("per_example", self.decision.per_example.map(|per_example| json!(per_example))),
            ("learning_rate", self.learning_rate.map(|rate| json!(rate))),
        ];
        if let Some(fields) = bound.as_object_mut() {
            let given = optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            fields.extend(given);
        }
        canonical::digest(&bound)
    }

    fn derive_checksum(&self) -> Digest {
        let mut everything = json!(self);
        if let Some(fields) = everything.as_object_mut() {
            fields.remove("checksum");
        }
        canonical::digest(&everything)
    }

    pub(super) fn check_seal(&self, path: &Path) -> Result<(), PlanError> {
        let seals = [("checksum", self.checksum, self.derive_checksum()), ("id", self.id, self.derive_id())];
        match seals.into_iter().find(|(_, stated, found)| stated != found) {
            Some((field, stated, found)) => Err(PlanError::Changed { path: path.into(), field, stated, found }),
            None => Ok(()),
        }
    }
}
