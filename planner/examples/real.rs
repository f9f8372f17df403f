use frostline_planner::*;
use std::time::Instant;
struct P(std::cell::Cell<Instant>);
impl Progress for P {
    fn begin(&self, step: Step, total: u64) {
        eprintln!("[{:.1}s] {step:?} {total}  rss {} MB", self.0.get().elapsed().as_secs_f64(), rss());
    }
    fn advance(&self, done: u64) {
        eprintln!("  [{:.1}s] +{done} rss {}", self.0.get().elapsed().as_secs_f64(), rss());
    }
}
fn rss() -> String {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    s.lines()
        .filter(|l| l.starts_with("VmRSS") || l.starts_with("RssAnon") || l.starts_with("VmHWM"))
        .map(|l| l.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024)
        .map(|x| x.to_string())
        .collect::<Vec<_>>()
        .join("/")
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let engine = match a[1].as_str() {
        "ort" => EngineChoice::Ort { library: None, device: Device::Cpu },
        _ => EngineChoice::Tract,
    };
    if a[1] == "layers" {
        println!("{:#?}", layers::describe(a[2].as_ref(), None).unwrap());
        return;
    }
    let s = Settings {
        model: a[2].clone().into(),
        onnx: None,
        data: a[3].clone().into(),
        engine,
        threads: None,
        examples: a[4].parse().unwrap(),
        seed: 0,
        max_length: 512,
        gain: frostline_schemas::plan::Gain::PowerLaw,
        aggregate: frostline_schemas::plan::Aggregate::Median,
        min_trainable_layers: 1,
        budget: None,
        latent_spaces: None,
    };
    let p = P(std::cell::Cell::new(Instant::now()));
    match plan(&s, &p) {
        Ok(plan) => {
            std::fs::write(&a[5], plan.to_text().unwrap()).unwrap();
            p.begin(Step::Running, 0);
            println!("{:?} {}", plan.decision, plan.id)
        }
        Err(e) => println!("ERROR {e}"),
    }
}
