//! A plan's id and checksum: what they cover, and how they are computed.
//!
//! Both are the SHA-256 of canonical JSON by RFC 8785, so any language with a library for that can compute them:
//!
//! - the id: of an object with the plan's `version`, `model`, `data`, `method`, `tensors`, its `decision.frost_line` as
//!   `frost_line`, and its `decision.per_example`, where there is one, as `per_example`;
//! - the checksum: of the whole plan without `checksum`.
//!
//! ```python
//! import hashlib, json, rfc8785
//!
//! plan = json.load(open("plan.json"))
//! bound = {key: plan[key] for key in ("version", "model", "data", "method", "tensors")}
//! bound["frost_line"] = plan["decision"]["frost_line"]
//! if "per_example" in plan["decision"]:
//!     bound["per_example"] = plan["decision"]["per_example"]
//! assert plan["id"] == "sha256:" + hashlib.sha256(rfc8785.dumps(bound)).hexdigest()
//! ```

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
        if let (Some(fields), Some(per_example)) = (bound.as_object_mut(), &self.decision.per_example) {
            fields.insert("per_example".into(), json!(per_example));
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
