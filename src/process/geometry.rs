//! Sizes: what a template's width and height mean for a source of another shape.

/// The size of an output and the filters that lead to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fit {
    pub width: u64,
    pub height: u64,
    /// Filters, comma-separated, for a chain that ends with them.
    pub filters: String,
}

/// What a template asks for, pixels; 0: by the source's shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted<'a> {
    pub width: u64,
    pub height: u64,
    /// `open`: width is the long edge, height the short one.
    pub resolution_adaptive: &'a str,
    /// `black`, `stretch`, `white` or `gauss`.
    pub fill_type: &'a str,
}

/// The encoders take even sizes only.
fn even(value: u64) -> u64 {
    value.max(2).div_ceil(2) * 2
}

/// `value` × `part` / `whole`, rounded to the nearest even number.
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    ((value * part + whole) / (2 * whole.max(1)) * 2).max(2)
}

/// Width and height as asked for, for a source of this shape.
pub fn size(wanted: Wanted<'_>, source: (u64, u64)) -> (u64, u64) {
    let (source_width, source_height) = (source.0.max(2), source.1.max(2));
    let is_portrait = source_height > source_width;
    let (width, height) =
        if wanted.resolution_adaptive == "open" && is_portrait { (wanted.height, wanted.width) } else { (wanted.width, wanted.height) };
    match (width, height) {
        (0, 0) => (even(source_width), even(source_height)),
        (0, height) => (scaled(source_width, height, source_height), even(height)),
        (width, 0) => (even(width), scaled(source_height, width, source_width)),
        (width, height) => (even(width), even(height)),
    }
}

/// The size, and how the picture comes into it. `label` tells apart what several chains of one graph need by name.
pub fn fit(wanted: Wanted<'_>, source: (u64, u64), label: &str) -> Fit {
    let (width, height) = size(wanted, source);
    let (source_width, source_height) = (source.0.max(2), source.1.max(2));
    // A pixel more or less from rounding is no other shape.
    let has_other_shape = (width * source_height).abs_diff(height * source_width) > 2 * width.max(height).max(source_width).max(source_height);
    let inside = format!("scale={width}:{height}:force_original_aspect_ratio=decrease:force_divisible_by=2");
    let middle = "(ow-iw)/2:(oh-ih)/2";
    let filters = match wanted.fill_type {
        _ if !has_other_shape && (width, height) == source => "setsar=1".to_owned(),
        _ if !has_other_shape => format!("scale={width}:{height},setsar=1"),
        "stretch" => format!("scale={width}:{height},setsar=1"),
        "white" => format!("{inside},pad={width}:{height}:{middle}:color=white,setsar=1"),
        "gauss" => format!(
            "split[{label}a][{label}b];[{label}a]scale={width}:{height},boxblur=luma_radius=min(20\\,min(w\\,h)/4):luma_power=2[{label}c];\
             [{label}b]{inside}[{label}d];[{label}c][{label}d]overlay=(W-w)/2:(H-h)/2,setsar=1"
        ),
        _ => format!("{inside},pad={width}:{height}:{middle}:color=black,setsar=1"),
    };
    Fit { width, height, filters }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted<'a>(width: u64, height: u64, adaptive: &'a str, fill_type: &'a str) -> Wanted<'a> {
        Wanted { width, height, resolution_adaptive: adaptive, fill_type }
    }

    #[test]
    fn sizes() {
        for (ask, source, expected) in [
            (wanted(0, 0, "open", "black"), (1921, 1081), (1922, 1082)),
            (wanted(0, 720, "open", "black"), (1920, 1080), (1280, 720)),
            (wanted(0, 720, "open", "black"), (1080, 1920), (720, 1280)),
            (wanted(0, 720, "close", "black"), (1080, 1920), (406, 720)),
            (wanted(1280, 0, "open", "black"), (1920, 1080), (1280, 720)),
            (wanted(1280, 0, "open", "black"), (1080, 1920), (720, 1280)),
            (wanted(640, 480, "open", "black"), (1920, 1080), (640, 480)),
            (wanted(640, 480, "open", "black"), (1080, 1920), (480, 640)),
            (wanted(0, 240, "open", "black"), (320, 180), (426, 240)),
            (wanted(0, 0, "open", "black"), (0, 0), (2, 2)),
        ] {
            assert_eq!(size(ask, source), expected, "{ask:?} of {source:?}");
        }
    }

    #[test]
    fn filters() {
        let of = |ask, source| fit(ask, source, "x").filters;
        assert_eq!(of(wanted(0, 0, "open", "black"), (640, 360)), "setsar=1");
        assert_eq!(of(wanted(0, 240, "open", "black"), (640, 360)), "scale=426:240,setsar=1");
        assert_eq!(of(wanted(640, 480, "open", "stretch"), (640, 360)), "scale=640:480,setsar=1");
        assert!(of(wanted(640, 480, "open", "black"), (640, 360)).contains("pad=640:480:(ow-iw)/2:(oh-ih)/2:color=black"));
        assert!(of(wanted(640, 480, "open", "white"), (640, 360)).contains("color=white"));
        assert!(of(wanted(640, 480, "open", "gauss"), (640, 360)).contains("overlay"));
    }
}
