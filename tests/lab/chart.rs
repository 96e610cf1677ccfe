//! A picture of a bench: groups of horizontal bars, as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const LABELS: f64 = 430.0;
const BAR: f64 = 14.0;
const GAP: f64 = 16.0;
const TOP: f64 = 48.0;
/// This library, the kernel's MPTCP, the kernel's TCP: told apart without colour vision too.
const SERIES: [(&str, &str); 3] = [
    ("libmptcp", "#0b6e4f"),
    ("kernel MPTCP", "#e0a030"),
    ("kernel TCP, one wire", "#9aa5b1"),
];

/// One group.
pub struct Bars {
    /// What was measured.
    pub title: String,
    /// Its unit; groups of one unit have one scale.
    pub unit: &'static str,
    /// Digits behind the point.
    pub decimals: usize,
    /// In the order of the series; None where there is none.
    pub values: [Option<f64>; 3],
}

/// The whole picture.
pub fn draw(groups: &[Bars]) -> String {
    let mut body = String::new();
    let mut y = TOP;
    for group in groups {
        let scale = groups
            .iter()
            .filter(|other| other.unit == group.unit)
            .flat_map(|other| other.values.into_iter().flatten())
            .fold(f64::MIN_POSITIVE, f64::max);
        let _ = writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LABELS - 8.0,
            y + BAR,
            escape(&format!("{}, {}", group.title, group.unit)),
        );
        for (value, (_, colour)) in group.values.iter().zip(SERIES) {
            let Some(value) = value else { continue };
            let length = value / scale * (WIDTH - LABELS - 70.0);
            let decimals = group.decimals;
            let _ = writeln!(
                body,
                "<rect x=\"{LABELS}\" y=\"{y}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{}\">{value:.decimals$}</text>",
                BAR - 2.0,
                LABELS + length + 5.0,
                y + BAR - 3.0,
            );
            y += BAR;
        }
        y += GAP;
    }
    let mut legend = String::new();
    for (i, (name, colour)) in SERIES.iter().enumerate() {
        let x = LABELS + 140.0 * i as f64;
        let _ = writeln!(
            legend,
            "<rect x=\"{x}\" y=\"16\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"26\">{name}</text>",
            x + 17.0
        );
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{legend}{body}</svg>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_of_one_unit_have_one_scale() {
        let group = |value| Bars {
            title: "a < b".into(),
            unit: "ms",
            decimals: 0,
            values: [Some(value), None, None],
        };
        let picture = draw(&[group(100.0), group(50.0)]);
        assert!(
            picture.contains("width=\"360.0\"") && picture.contains("width=\"180.0\""),
            "{picture}"
        );
        assert!(picture.contains("a &lt; b"));
    }
}
