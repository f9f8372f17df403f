//! A comparison as a picture: the loss on rows held back over seconds, one line an arm, both axes readable on light and on
//! dark ground.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use frostline_runtime::compare::{ArmResult, Point};

/// Told apart by people who see few colours, too (Okabe and Ito), and seen on both grounds.
const COLOURS: [&str; 7] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c6bb1"];
/// Of the lines after those.
const DASHES: [&str; 4] = ["none", "6 3", "2 2", "8 2 2 2"];

/// The plot's place, in pixels.
const LEFT: f64 = 70.0;
const TOP: f64 = 20.0;
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 320.0;
/// Of a line of text.
const LINE: f64 = 20.0;

const STYLE: &str = "svg { background: #fff; color: #222; font: 13px sans-serif } \
                     @media (prefers-color-scheme: dark) { svg { background: #161616; color: #ddd } } \
                     text { fill: currentColor } .axis { stroke: currentColor; opacity: 0.25 } \
                     .arm { fill: none; stroke-width: 2 }";

/// Draws the first seed's training at each arm's best rate; arms of which all diverged are left out.
pub(crate) fn draw(arms: &[ArmResult]) -> String {
    let best = |arm: &'_ ArmResult| arm.at_best().next().map(|run| run.curve.clone());
    let lines: Vec<(&str, Vec<Point>)> =
        arms.iter().filter_map(|arm| Some((arm.name.as_str(), drawn(best(arm)?)))).collect();
    let points = || lines.iter().flat_map(|(_, curve)| curve);
    let (across, down) = (Axis::from_zero(points()), Axis::of_losses(points()));
    let longest = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let (width, height) = (LEFT + WIDTH + 60.0 + 8.0 * longest as f64, TOP + HEIGHT + 50.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n\
         <title>Loss on rows held back over seconds</title>\n<style>{STYLE}</style>\n"
    );
    for value in across.ticks() {
        let (x, bottom) = (across.x(value), TOP + HEIGHT);
        svg += &format!("<line class=\"axis\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>\n");
        svg += &format!("<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>\n", bottom + LINE);
    }
    for value in down.ticks() {
        let (y, right) = (down.y(value), LEFT + WIDTH);
        svg += &format!("<line class=\"axis\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\n");
        svg += &format!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>\n", LEFT - 8.0, y + 4.0);
    }
    svg += &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">seconds</text>\n",
        LEFT + WIDTH / 2.0,
        TOP + HEIGHT + 2.0 * LINE
    );
    for (index, (name, curve)) in lines.iter().enumerate() {
        svg += &line(index, name, curve, &across, &down);
    }
    svg + "</svg>\n"
}

/// Points that have a place on axes.
fn drawn(mut curve: Vec<Point>) -> Vec<Point> {
    curve.retain(|point| point.held_out_loss.is_finite() && point.held_out_loss > 0.0);
    curve
}

/// A curve with its name.
fn line(index: usize, name: &str, curve: &[Point], across: &Axis, down: &Axis) -> String {
    let colour = COLOURS[index % COLOURS.len()];
    let dash = DASHES[index / COLOURS.len() % DASHES.len()];
    let place = |point: &Point| format!("{:.1},{:.1}", across.x(point.seconds), down.y(point.held_out_loss));
    let places: Vec<String> = curve.iter().map(place).collect();
    let (x, y) = (LEFT + WIDTH + 14.0, TOP + LINE * (index as f64 + 0.5));
    let look = format!("class=\"arm\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\"");
    format!(
        "<polyline {look} points=\"{}\"/>\n<line {look} x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\"/>\n\
         <text x=\"{}\" y=\"{}\">{}</text>\n",
        places.join(" "),
        x + 24.0,
        x + 30.0,
        y + 4.0,
        escaped(name)
    )
}

/// A range of values; that of losses is logarithmic.
struct Axis {
    from: f64,
    to: f64,
    is_logarithmic: bool,
}

impl Axis {
    fn from_zero<'a>(points: impl Iterator<Item = &'a Point>) -> Axis {
        let to = points.map(|point| point.seconds).fold(0.0, f64::max).max(1e-3);
        Axis { from: 0.0, to, is_logarithmic: false }
    }

    fn of_losses<'a>(points: impl Iterator<Item = &'a Point> + Clone) -> Axis {
        let losses = || points.clone().map(|point| point.held_out_loss);
        let (least, most) = (losses().fold(f64::INFINITY, f64::min), losses().fold(0.0, f64::max));
        let (least, most) = if least.is_finite() { (least, most) } else { (0.1, 1.0) };
        Axis { from: least / 1.1, to: most * 1.1, is_logarithmic: true }
    }

    /// 0 at the beginning, 1 at the end.
    fn share(&self, value: f64) -> f64 {
        match self.is_logarithmic {
            true => (value / self.from).ln() / (self.to / self.from).ln(),
            false => (value - self.from) / (self.to - self.from),
        }
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + WIDTH * self.share(value)
    }

    fn y(&self, value: f64) -> f64 {
        TOP + HEIGHT * (1.0 - self.share(value))
    }

    /// Round values within the range: multiples of one, or 1, 2 and 5 of each decade.
    fn ticks(&self) -> Vec<f64> {
        let round = |exponent: i32| [1, 2, 5].map(|digit| format!("{digit}e{exponent}").parse().unwrap_or(f64::NAN));
        let values = (-12..12).flat_map(round);
        if self.is_logarithmic {
            return values.filter(|value| (self.from..=self.to).contains(value)).collect();
        }
        let step = values.into_iter().find(|step| self.to / step <= 8.0).unwrap_or(self.to);
        // Multiples of a tenth are not exact; they are written with the digits of the step.
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let exact = |count: u32| format!("{:.digits$}", f64::from(count) * step).parse().unwrap_or(f64::NAN);
        (0..=8).map(exact).filter(|value| *value <= self.to).collect()
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Whether a file begins as a picture does.
pub(crate) fn is_at(path: &Path) -> bool {
    const BEGINNING: &[u8] = b"<svg ";
    let mut beginning = [0; BEGINNING.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut beginning));
    read.is_ok() && beginning == BEGINNING
}

#[cfg(test)]
mod tests {
    use super::*;
    use frostline_runtime::compare::TrainedArm;
    use frostline_schemas::digest::Digest;

    fn arm(name: &str, losses: &[f64]) -> ArmResult {
        let point = |(k, &held_out_loss): (usize, &f64)| Point {
            step: k as u64 + 1,
            seconds: 2.5 * (k + 1) as f64,
            loss: 1.0,
            held_out_loss,
        };
        let curve: Vec<Point> = losses.iter().enumerate().map(point).collect();
        let run = TrainedArm { held_out_loss: losses.last().copied(), curve, ..TrainedArm::default() };
        ArmResult {
            name: name.into(),
            plan: Digest::of(b"plan"),
            frost_line: 0,
            trained_parameters: 1,
            predicted: None,
            best: Some(run.learning_rate),
            trainings: vec![run],
        }
    }

    #[test]
    fn a_picture_is_xml_with_one_line_an_arm() {
        let arms = [arm("last:2", &[1.5, 0.7, 0.2]), arm("manual:a<b&\"c\"", &[0.9, f64::NAN, 0.04]), arm("none", &[])];
        let svg = draw(&arms);
        let document = roxmltree::Document::parse(&svg).unwrap();
        let named = |name: &str| {
            document
                .descendants()
                .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", name)))
                .collect::<Vec<_>>()
        };
        let lines: Vec<_> = named("polyline").iter().map(|line| line.attribute("points").unwrap().to_owned()).collect();
        assert_eq!(lines.iter().map(|line| line.split_whitespace().count()).collect::<Vec<_>>(), [3, 2]);
        for place in lines.iter().flat_map(|line| line.split_whitespace()) {
            let (x, y) = place.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=LEFT + WIDTH).contains(&x) && (TOP..=TOP + HEIGHT).contains(&y), "{place}");
        }
        let texts: Vec<_> = named("text").iter().filter_map(|text| text.text()).collect();
        assert!(texts.contains(&"manual:a<b&\"c\"") && texts.contains(&"0.05") && texts.contains(&"7"), "{texts:?}");
    }

    #[test]
    fn nothing_to_draw_is_a_picture_too() {
        assert!(roxmltree::Document::parse(&draw(&[])).is_ok());
        assert!(roxmltree::Document::parse(&draw(&[arm("one", &[0.5])])).is_ok());
    }
}
