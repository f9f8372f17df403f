//! A model's own chat template: conversations to text as transformers renders them, and which of the text the assistant said.
//!
//! The engine is minijinja. What it does unlike Jinja2 and Python is written anew before it compiles a template (`syntax`)
//! and done here when it renders (`values`, `methods`, `filters`, `jinja_tests`, `operators`, `functions`).

mod answers;
mod arguments;
mod chat_template;
mod conversation;
mod date;
mod engine;
mod error;
mod fault;
mod filters;
mod functions;
mod habits;
mod held;
mod jinja_tests;
mod json;
mod lookup;
mod marks;
mod methods;
mod operators;
mod rendered;
mod syntax;
mod values;

pub use self::chat_template::{ChatTemplate, TemplateSettings};
pub use self::conversation::Conversation;
pub use self::error::TemplateError;
pub use self::rendered::{Answer, FoundBy, Rendered};
