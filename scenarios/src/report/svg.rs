//! A drawing as text. Well-formed by construction: every name is our own, every value and text is escaped, and what was
//! opened is closed.

use std::fmt::Write as _;

use converge_vdiff::report::show::visible;

/// A drawing that is being made. Lengths are in units of its view box.
pub struct Svg {
    out: String,
    open: Vec<&'static str>,
}

/// Where a text stands relative to its x.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

impl Svg {
    /// Begins a drawing; `label` says what it shows to those who cannot see it.
    pub fn new(width: f64, height: f64, label: &str) -> Self {
        let mut svg = Self { out: String::new(), open: Vec::new() };
        let view = format!("0 0 {} {}", number(width), number(height));
        svg.open(
            "svg",
            &[
                ("xmlns", "http://www.w3.org/2000/svg"),
                ("viewBox", &view),
                ("role", "img"),
                ("aria-label", label),
            ],
        );
        svg
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &str)], end: &str) {
        let _ = write!(self.out, "<{name}");
        for (name, value) in attributes {
            let _ = write!(self.out, " {name}=\"{}\"", escaped(value));
        }
        self.out.push_str(end);
    }

    /// Opens an element that is closed by [`Self::close`].
    pub fn open(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.tag(name, attributes, ">");
        self.open.push(name);
    }

    /// Closes the element that was opened last.
    pub fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            let _ = writeln!(self.out, "</{name}>");
        }
    }

    /// A text of one line; `y` is its base line.
    pub fn text(&mut self, x: f64, y: f64, class: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.open("text", &[("x", &number(x)), ("y", &number(y)), ("class", class), ("text-anchor", anchor)]);
        self.out.push_str(&escaped(text));
        self.close();
    }

    /// A rectangle; with a `hint`, which browsers show on hovering.
    pub fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), class: &str, hint: &str) {
        let [x, y, width, height] = [x, y, width.max(0.0), height.max(0.0)].map(number);
        self.open("rect", &[("x", &x), ("y", &y), ("width", &width), ("height", &height), ("class", class)]);
        if !hint.is_empty() {
            self.open("title", &[]);
            self.out.push_str(&escaped(hint));
            self.close();
        }
        self.close();
    }

    /// A straight line.
    pub fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(number);
        self.tag("line", &[("x1", &x1), ("y1", &y1), ("x2", &x2), ("y2", &y2), ("class", class)], "/>\n");
    }

    /// A line through points; nothing without any. One that is `closed` encloses an area.
    pub fn path(&mut self, points: &[(f64, f64)], closed: bool, class: &str) {
        let mut way = String::new();
        for (i, (x, y)) in points.iter().enumerate() {
            let _ = write!(way, "{}{} {}", if i == 0 { "M" } else { "L" }, number(*x), number(*y));
        }
        if way.is_empty() {
            return;
        }
        if closed {
            way.push('Z');
        }
        self.tag("path", &[("d", &way), ("class", class)], "/>\n");
    }

    /// A dot.
    pub fn dot(&mut self, (x, y): (f64, f64), class: &str) {
        self.tag("circle", &[("cx", &number(x)), ("cy", &number(y)), ("r", "1.6"), ("class", class)], "/>\n");
    }

    /// The drawing.
    pub fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.out
    }
}

/// With one digit after the point, without one that is zero. What is no number is 0.
fn number(n: f64) -> String {
    let n = if n.is_finite() { (n * 10.0).round() / 10.0 } else { 0.0 };
    // Without a negative zero.
    format!("{}", n + 0.0)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// What a drawing that is not well-formed lacks. Reads only what [`Svg`] can write.
#[cfg(test)]
pub fn fault_of(svg: &str) -> Option<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        if before.contains(['>', '"'])
            || before.split('&').skip(1).any(|e| !e.split(' ').next().unwrap().contains(';'))
        {
            return Some(format!("raw text {before:?}"));
        }
        let Some(end) = tag.find('>') else { return Some(format!("unfinished {tag:?}")) };
        let inner = &tag[1..end];
        if let Some(name) = inner.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Some(format!("{name} closes nothing"));
            }
        } else if inner.contains('<') || !inner.matches('"').count().is_multiple_of(2) {
            return Some(format!("bad tag {inner:?}"));
        } else if !inner.ends_with('/') {
            open.push(inner.split(' ').next().unwrap());
        }
        rest = &tag[end + 1..];
    }
    if !open.is_empty() || !rest.trim().is_empty() {
        return Some(format!("{open:?} left open before {rest:?}"));
    }
    let bad = ["NaN", "inf", "-0\""].into_iter().find(|bad| svg.contains(bad));
    bad.map(|bad| format!("{bad} in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_leaves_it_well_formed() {
        let mut svg = Svg::new(10.0, 10.0, "a \"b\" <c>");
        svg.text(1.0, 1.0, "x", Anchor::Start, "</svg><script>alert(1)</script>&\u{0}");
        svg.rect((f64::NAN, -0.0), (f64::INFINITY, -1.0), "x", "<b>");
        svg.path(&[(0.0, 0.0), (1.25, f64::NAN)], true, "x");
        svg.path(&[], false, "x");
        let text = svg.finish();
        assert_eq!(fault_of(&text), None, "{text}");
        assert!(!text.contains("<script"));
    }

    #[test]
    fn the_check_finds_what_it_looks_for() {
        for bad in [
            "<svg>",
            "<svg></g></svg>",
            "<svg a=\"></svg>",
            "<svg>a>b</svg>",
            "<svg x=\"NaN\"/>",
            "<svg>a&b</svg>",
        ] {
            assert!(fault_of(bad).is_some(), "{bad}");
        }
        assert_eq!(fault_of("<svg a=\"1\"><g/>a &amp; b</svg>\n"), None);
    }
}
