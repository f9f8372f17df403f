//! What a training run leaves behind: its settings and the metrics of each step.

mod metrics;
mod record;

pub use self::metrics::StepMetrics;
pub use self::record::{
    ADAPTER_CONFIG_FILE, ADAPTER_FILE, BASE_KEY, Lora, METRICS_FILE, Order, PLAN_KEY, RunRecord, SETTINGS_FILE,
    Schedule, TRAINED_FILE, TrainingMethod, TrainingSettings, VERSION,
};
