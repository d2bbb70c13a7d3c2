//! The timeline as a drawing: panels over one axis of time, faults as bands across all of them, the mover's states as
//! lines. Colours come from the page's style.

use super::svg::{Anchor, Svg};
use super::timeline::{Band, Bucket, Timeline};
use converge_vdiff::report::show::line;

/// Units across, and where the panels begin and end.
const WIDTH: f64 = 1120.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 16.0;
/// Units between lines of labels, and a letter's width at most.
const LANE: f64 = 17.0;
const LETTER: f64 = 6.9;
const SMALL_LETTER: f64 = 7.2;
/// Units above a panel, for its title.
const TITLE: f64 = 30.0;
/// Units between the legend's lines.
const LEGEND_LINE: f64 = 18.0;

/// What a panel shows.
struct Panel {
    title: String,
    height: f64,
    series: Vec<Series>,
    /// A level to compare with.
    level: Option<f64>,
}

impl Panel {
    fn new(title: &str, height: f64, series: Vec<Series>) -> Self {
        Self { title: title.into(), height, series, level: None }
    }
}

struct Series {
    class: &'static str,
    name: &'static str,
    filled: bool,
    /// One value per bucket; absent where it is not known.
    values: Vec<Option<f64>>,
}

/// Draws a timeline.
pub fn draw(timeline: &Timeline) -> String {
    let chart = Chart { timeline, end: timeline.end.max(1) as f64 };
    let panels = panels(timeline);
    let labels = chart.labels();
    let lanes = labels.iter().map(|l| l.lane + 1).max().unwrap_or(0);
    let top = lanes as f64 * LANE + 6.0;
    let bottom = top + panels.iter().map(|p| p.height + TITLE).sum::<f64>();
    let mut svg = Svg::new(
        WIDTH,
        bottom + 54.0 + 2.0 * LEGEND_LINE,
        "The run over time: writes, refusals, lag, rows copied, and faults",
    );
    chart.bands(&mut svg, top, bottom);
    chart.marks(&mut svg, top, bottom);
    let mut y = top;
    for panel in &panels {
        chart.panel(&mut svg, panel, y + TITLE);
        y += panel.height + TITLE;
    }
    for label in &labels {
        svg.text(label.x, (label.lane + 1) as f64 * LANE - 5.0, label.class, label.anchor, &label.text);
    }
    chart.time_axis(&mut svg, bottom);
    legend(&mut svg, &panels, bottom + 54.0);
    svg.finish()
}

fn panels(timeline: &Timeline) -> Vec<Panel> {
    let series = |class, name, value: &dyn Fn(usize, &Bucket) -> Option<f64>| {
        let values = timeline.buckets.iter().enumerate().map(|(i, bucket)| value(i, bucket));
        Series { class, name, filled: false, values: values.collect() }
    };
    let per_second = |i: usize, n: u64| timeline.seconds(i).map(|seconds| n as f64 / seconds);
    let acknowledged = series("acknowledged", "acknowledged", &|i, b| per_second(i, b.acknowledged));
    let refused = series("refused", "refused", &|i, b| per_second(i, b.refused));
    let unknown = series("unknown", "outcome unknown", &|i, b| per_second(i, b.unknown));
    let lag = series("lag", "lag", &|_, b| b.lag);
    let copied = series("copied", "rows copied", &|_, b| b.copied.map(|n| n as f64));
    let estimated = (timeline.rows_estimated > 0).then_some(timeline.rows_estimated as f64);
    let mut panels = vec![
        Panel::new("writes acknowledged per second", 120.0, vec![Series { filled: true, ..acknowledged }]),
        Panel::new("statements refused, and of unknown outcome, per second", 70.0, vec![refused, unknown]),
        Panel::new("lag in seconds (a gap: not known)", 70.0, vec![lag]),
    ];
    let title = "rows copied (dashed: rows to copy when the move began)";
    panels.push(Panel { level: estimated, ..Panel::new(title, 90.0, vec![copied]) });
    panels
}

/// A text above the panels.
struct Label {
    x: f64,
    anchor: Anchor,
    lane: usize,
    class: &'static str,
    text: String,
}

struct Chart<'a> {
    timeline: &'a Timeline,
    end: f64,
}

impl Chart<'_> {
    fn x(&self, at: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * (at / self.end).clamp(0.0, 1.0)
    }

    fn healed(&self, band: &Band) -> f64 {
        band.healed.map_or(self.end, |at| at as f64)
    }

    fn bands(&self, svg: &mut Svg, top: f64, bottom: f64) {
        for band in &self.timeline.bands {
            let (from, to) = (self.x(band.injected as f64), self.x(self.healed(band)));
            let hint = format!("{}: {}", band.fault, line(&band.evidence));
            svg.rect((from, top), ((to - from).max(1.5), bottom - top), "band", &hint);
            svg.line((from, top), (from, bottom), "band-edge");
            if let Some(at) = band.observed {
                let x = self.x(at as f64);
                svg.path(&[(x - 4.0, top - 1.0), (x + 4.0, top - 1.0), (x, top + 7.0)], true, "observed");
            }
        }
    }

    fn marks(&self, svg: &mut Svg, top: f64, bottom: f64) {
        for change in &self.timeline.changes {
            let x = self.x(change.at as f64);
            svg.line((x, top), (x, bottom), "state-line");
        }
    }

    /// States first, so that they keep the upper lanes.
    fn labels(&self) -> Vec<Label> {
        let states = self.timeline.changes.iter().map(|c| (c.at, "state", format!("▸ {}", line(&c.state))));
        let faults = self.timeline.bands.iter().map(|band| {
            let mut text = line(&band.fault);
            if band.observed.is_none() {
                text.push_str(" (not seen)");
            }
            match band.healed {
                Some(at) => {
                    text.push_str(&format!(" {:.1} s", at.saturating_sub(band.injected) as f64 / 1e6))
                }
                None => text.push_str(" (not healed)"),
            }
            (band.injected, "fault", text)
        });
        let mut labels = Vec::new();
        place(&mut labels, 0, states.map(|(at, class, text)| (self.x(at as f64), class, text)));
        let used = labels.iter().map(|l: &Label| l.lane + 1).max().unwrap_or(0);
        place(&mut labels, used, faults.map(|(at, class, text)| (self.x(at as f64), class, text)));
        labels
    }

    fn panel(&self, svg: &mut Svg, panel: &Panel, top: f64) {
        let known = panel.series.iter().flat_map(|s| s.values.iter().flatten().copied()).chain(panel.level);
        // Not less than 1, so that a lag of milliseconds does not look like one of hours.
        let ticks = ticks(known.fold(1.0, f64::max), 3);
        let most = ticks.last().copied().unwrap_or(1.0);
        let y = |value: f64| top + panel.height * (1.0 - value / most);
        svg.text(LEFT, top - 7.0, "title", Anchor::Start, &panel.title);
        for tick in &ticks {
            svg.line((LEFT, y(*tick)), (RIGHT, y(*tick)), if *tick == 0.0 { "axis" } else { "grid" });
            svg.text(LEFT - 6.0, y(*tick) + 4.0, "tick", Anchor::End, &short(*tick));
        }
        if let Some(level) = panel.level {
            svg.line((LEFT, y(level)), (RIGHT, y(level)), "level");
        }
        for series in &panel.series {
            self.series(svg, series, &y, top + panel.height);
        }
    }

    /// Known values next to each other make one line; one alone makes a dot.
    fn series(&self, svg: &mut Svg, series: &Series, y: &dyn Fn(f64) -> f64, floor: f64) {
        let middle = |i: usize| self.x((i as f64 + 0.5) * self.timeline.width as f64);
        let points: Vec<Option<(f64, f64)>> =
            series.values.iter().enumerate().map(|(i, v)| v.map(|v| (middle(i), y(v)))).collect();
        for run in points.split(Option::is_none) {
            let run: Vec<(f64, f64)> = run.iter().flatten().copied().collect();
            match run.as_slice() {
                [] => {}
                [alone] => svg.dot(*alone, &format!("dot {}", series.class)),
                [first, .., last] => {
                    if series.filled {
                        let mut area = run.clone();
                        area.extend([(last.0, floor), (first.0, floor)]);
                        svg.path(&area, true, &format!("area {}", series.class));
                    }
                    svg.path(&run, false, &format!("curve {}", series.class));
                }
            }
        }
    }

    fn time_axis(&self, svg: &mut Svg, y: f64) {
        for tick in ticks(self.end / 1e6, 10) {
            if tick * 1e6 > self.end {
                break;
            }
            let x = self.x(tick * 1e6);
            svg.line((x, y), (x, y + 5.0), "axis");
            svg.text(x, y + 18.0, "tick", Anchor::Middle, &short(tick));
        }
        svg.text((LEFT + RIGHT) / 2.0, y + 34.0, "title", Anchor::Middle, "seconds since the run began");
    }
}

/// Puts each label into the first lane from `first` on where it meets no other.
fn place(labels: &mut Vec<Label>, first: usize, wanted: impl Iterator<Item = (f64, &'static str, String)>) {
    let mut free_from: Vec<f64> = Vec::new();
    for (x, class, text) in wanted {
        let width = text.chars().count() as f64 * LETTER;
        let (from, anchor) = if x + width > RIGHT { (x - width, Anchor::End) } else { (x, Anchor::Start) };
        let lane = free_from.iter().position(|free| *free <= from).unwrap_or_else(|| {
            free_from.push(f64::MIN);
            free_from.len() - 1
        });
        free_from[lane] = from + width + 8.0;
        labels.push(Label { x, anchor, lane: first + lane, class, text });
    }
}

/// Draws the legend from `y` on, on two lines.
fn legend(svg: &mut Svg, panels: &[Panel], mut y: f64) {
    let mut x = LEFT;
    let mut entry = |svg: &mut Svg, name: &str, draw: &dyn Fn(&mut Svg, f64, f64)| {
        let width = 24.0 + name.chars().count() as f64 * SMALL_LETTER;
        if x + width > RIGHT {
            (x, y) = (LEFT, y + LEGEND_LINE);
        }
        draw(svg, x, y);
        svg.text(x + 24.0, y, "tick", Anchor::Start, name);
        x += width + 12.0;
    };
    for series in panels.iter().flat_map(|p| &p.series) {
        entry(svg, series.name, &|svg, x, y| {
            svg.path(&[(x, y - 4.0), (x + 18.0, y - 4.0)], false, &format!("curve {}", series.class));
        });
    }
    entry(svg, "fault, injected to healed", &|svg, x, y| svg.rect((x, y - 10.0), (18.0, 12.0), "band", ""));
    entry(svg, "its effect was seen", &|svg, x, y| {
        svg.path(&[(x + 5.0, y - 8.0), (x + 13.0, y - 8.0), (x + 9.0, y)], true, "observed");
    });
    entry(svg, "mover's state changes", &|svg, x, y| {
        svg.line((x + 9.0, y - 11.0), (x + 9.0, y + 2.0), "state-line")
    });
}

/// Round values from 0 to at least `most`, about `count` of them.
fn ticks(most: f64, count: usize) -> Vec<f64> {
    let most = if most.is_finite() && most > 0.0 { most } else { 1.0 };
    let rough = most / count as f64;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .map(|m| m * magnitude)
        .into_iter()
        .find(|s| *s >= rough * 0.999)
        .unwrap_or(rough);
    let steps = (most / step - 1e-9).ceil() as usize;
    (0..=steps).map(|i| i as f64 * step).collect()
}

/// A number that fits beside an axis.
fn short(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{}G", rounded(n / 1e9)),
        n if n >= 1e6 => format!("{}M", rounded(n / 1e6)),
        n if n >= 1e4 => format!("{}k", rounded(n / 1e3)),
        n => rounded(n).to_string(),
    }
}

fn rounded(n: f64) -> f64 {
    (n * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::super::svg::fault_of;
    use super::super::timeline::Change;
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(ticks(1200.0, 3), [0.0, 500.0, 1000.0, 1500.0]);
        assert_eq!(ticks(3.0, 3), [0.0, 1.0, 2.0, 3.0]);
        for most in [0.0, f64::NAN, 0.3, 7.0, 99.0, 110_000.0, 1e15] {
            let ticks = ticks(most, 3);
            assert!((2..=5).contains(&ticks.len()), "{most}: {ticks:?}");
            assert!(most.is_nan() || *ticks.last().unwrap() >= most, "{most}: {ticks:?}");
        }
        assert_eq!([999.0, 20_000.0, 1_500_000.0].map(short), ["999", "20k", "1.5M"]);
    }

    #[test]
    fn labels_never_overlap() {
        let mut labels = Vec::new();
        let wanted = [70.0, 75.0, 80.0, 200.0, 600.0, 1090.0, 1100.0]
            .map(|x| (x, "fault", "kill_source (not seen)".to_owned()));
        place(&mut labels, 2, wanted.into_iter());
        let spans: Vec<(usize, f64, f64)> = labels
            .iter()
            .map(|l| {
                let width = l.text.chars().count() as f64 * LETTER;
                let from = if l.anchor == Anchor::End { l.x - width } else { l.x };
                (l.lane, from, from + width)
            })
            .collect();
        for (i, a) in spans.iter().enumerate() {
            assert!(a.0 >= 2 && a.2 <= WIDTH, "{a:?}");
            for b in &spans[i + 1..] {
                assert!(a.0 != b.0 || a.2 <= b.1 || b.2 <= a.1, "{a:?} {b:?}");
            }
        }
    }

    fn timeline(buckets: Vec<Bucket>) -> Timeline {
        Timeline {
            width: 500_000,
            end: buckets.len() as u64 * 500_000,
            buckets,
            bands: Vec::new(),
            changes: Vec::new(),
            rows_estimated: 100,
            trouble: None,
        }
    }

    #[test]
    fn whatever_happened_the_drawing_is_well_formed() {
        let hostile = "</text><script>alert(1)</script>";
        let band = |observed, healed| Band {
            fault: hostile.into(),
            injected: 100,
            observed,
            healed,
            evidence: format!("\"{hostile}'"),
        };
        let some = Bucket { acknowledged: 9, refused: 2, unknown: 1, lag: Some(0.5), copied: Some(40) };
        let mut full = timeline(vec![some, Bucket::default(), some, some]);
        full.bands = vec![band(None, None), band(Some(200), Some(1_000_000))];
        full.changes = vec![Change { at: 1, state: hostile.into() }];
        for timeline in [timeline(vec![]), timeline(vec![Bucket::default()]), full] {
            let svg = draw(&timeline);
            assert_eq!(fault_of(&svg), None, "{svg}");
            assert!(!svg.contains("<script"));
        }
    }

    #[test]
    fn what_is_not_known_is_a_gap_and_no_zero() {
        let known = |lag| Bucket { lag: Some(lag), ..Bucket::default() };
        let curves = |buckets| draw(&timeline(buckets)).matches("class=\"curve lag\"").count();
        let whole = curves(vec![known(1.0), known(2.0), known(3.0), known(4.0)]);
        let broken = curves(vec![known(1.0), known(2.0), Bucket::default(), known(3.0), known(4.0)]);
        assert_eq!(broken, whole + 1);
    }

    #[test]
    fn a_fault_that_was_not_seen_or_not_healed_says_so() {
        let mut timeline = timeline(vec![Bucket::default(); 4]);
        timeline.bands = vec![Band {
            fault: "kill_source".into(),
            injected: 1,
            observed: None,
            healed: None,
            evidence: String::new(),
        }];
        let svg = draw(&timeline);
        assert!(svg.contains("kill_source (not seen) (not healed)"), "{svg}");
        assert!(svg.matches("class=\"observed\"").count() == 1, "only the legend's");
    }
}
