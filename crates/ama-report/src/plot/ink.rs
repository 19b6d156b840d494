//! Colours: Okabe and Ito's palette, which colour-blind readers can tell apart, and greys.
//!
//! The page's style sheet turns each of them into a shade for light or dark paper (`style.css`, by attribute selectors), so
//! a picture has the right colours wherever it stands, and has these if it is taken out of the page.

use plotters::style::RGBColor;

/// Colours of series; with more series they repeat, dashed.
pub(crate) const SERIES: [RGBColor; 6] = [
    RGBColor(0x00, 0x72, 0xB2),
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];
/// Text.
pub(crate) const TEXT: RGBColor = RGBColor(0x33, 0x33, 0x33);
/// Less important text, and reference lines.
pub(crate) const MUTED: RGBColor = RGBColor(0x6B, 0x6B, 0x6B);
/// Grid lines.
pub(crate) const GRID: RGBColor = RGBColor(0xE2, 0xE2, 0xE2);

/// Colour of the series `index`, and whether it is dashed.
pub(crate) fn series(index: usize) -> (RGBColor, bool) {
    (SERIES[index % SERIES.len()], index / SERIES.len() % 2 == 1)
}
