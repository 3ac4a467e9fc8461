//! The colours of a picture in the metadata packets of Enhanced RTMP.

use super::{Colour, MasteringDisplay};
use crate::rtmp::amf::{self, Value};

/// `colr` and `CICP` for what was not said.
const UNSPECIFIED: u16 = 2;

/// Reads the name `colorInfo` and its value in AMF0 (Enhanced RTMP v2, "Metadata Frame"). `None` if it is something else, cannot be read, or says nothing:
/// encoders send an empty one to take back an earlier.
pub fn parse(body: &[u8]) -> Option<Colour> {
    let values = amf::decode_all(body).ok()?;
    if values.first()?.as_str()? != "colorInfo" {
        return None;
    }
    let info = values.get(1)?;
    let config = info.get("colorConfig");
    let code = |name: &str| config.and_then(|config| whole(config.get(name)?));
    let codes = [code("colorPrimaries"), code("transferCharacteristics"), code("matrixCoefficients")];
    let [primaries, transfer, matrix] = codes.map(|code| code.unwrap_or(UNSPECIFIED));
    let light_level = info.get("hdrCll").and_then(|level| Some((whole(level.get("maxCLL")?)?, whole(level.get("maxFall")?)?)));
    let mastering = info.get("hdrMdcv").and_then(mastering);
    let says_something = codes.iter().any(Option::is_some) || light_level.is_some() || mastering.is_some();
    says_something.then_some(Colour { primaries, transfer, matrix, mastering, light_level })
}

fn whole(value: &Value) -> Option<u16> {
    value.as_number().filter(|number| (0.0..=65_535.0).contains(number)).map(|number| number.round() as u16)
}

fn mastering(value: &Value) -> Option<MasteringDisplay> {
    // 0 to 1 in steps of 0.00002.
    let coordinate =
        |name: &str| value.get(name)?.as_number().filter(|number| (0.0..=1.0).contains(number)).map(|number| (number * 50_000.0).round() as u16);
    let point = |x: &str, y: &str| Some((coordinate(x)?, coordinate(y)?));
    let luminance = |name: &str| {
        value.get(name)?.as_number().filter(|number| (0.0..=400_000.0).contains(number)).map(|number| (number * 10_000.0).round() as u32)
    };
    Some(MasteringDisplay {
        primaries: [point("greenX", "greenY")?, point("blueX", "blueY")?, point("redX", "redY")?],
        white_point: point("whitePointX", "whitePointY")?,
        luminance_max: luminance("maxLuminance")?,
        luminance_min: luminance("minLuminance")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(info: &[(&str, Value)]) -> Vec<u8> {
        amf::encode_all(&[Value::string("colorInfo"), Value::object(info)])
    }

    #[test]
    fn colours_come_in_the_units_of_the_boxes() {
        let numbers = |list: &[(&str, f64)]| Value::Object(list.iter().map(|(name, value)| ((*name).to_owned(), Value::Number(*value))).collect());
        let config = numbers(&[("colorPrimaries", 9.0), ("transferCharacteristics", 16.0), ("matrixCoefficients", 9.0), ("bitDepth", 10.0)]);
        let display = [
            ("redX", 0.68),
            ("redY", 0.32),
            ("greenX", 0.265),
            ("greenY", 0.69),
            ("blueX", 0.15),
            ("blueY", 0.06),
            ("whitePointX", 0.3127),
            ("whitePointY", 0.329),
            ("maxLuminance", 1000.0),
            ("minLuminance", 0.0001),
        ];
        let level = numbers(&[("maxCLL", 1000.0), ("maxFall", 400.0)]);
        let body = encoded(&[("colorConfig", config.clone()), ("hdrMdcv", numbers(&display)), ("hdrCll", level)]);
        let expected = Colour {
            primaries: 9,
            transfer: 16,
            matrix: 9,
            mastering: Some(MasteringDisplay {
                primaries: [(13_250, 34_500), (7_500, 3_000), (34_000, 16_000)],
                white_point: (15_635, 16_450),
                luminance_max: 10_000_000,
                luminance_min: 1,
            }),
            light_level: Some((1000, 400)),
        };
        assert_eq!(parse(&body).as_ref(), Some(&expected));
        // The ends of the objects may be missing: encoders leave them out.
        for cut in 0..body.len() - 6 {
            assert_ne!(parse(&body[..cut]).as_ref(), Some(&expected), "cut at {cut}");
        }
        let matrix = parse(&encoded(&[("colorConfig", numbers(&[("matrixCoefficients", 9.0)]))])).unwrap();
        assert_eq!((matrix.primaries, matrix.transfer, matrix.matrix, matrix.mastering, matrix.light_level), (2, 2, 9, None, None));
        // An incomplete or impossible display is left out, as a whole.
        let off = encoded(&[("colorConfig", config), ("hdrMdcv", numbers(&[("redX", 2.0)]))]);
        assert_eq!(parse(&off).unwrap().mastering, None);
        assert_eq!(parse(&encoded(&[("colorConfig", numbers(&[]))])), None);
        assert_eq!(parse(&amf::encode_all(&[Value::string("other"), Value::Null])), None);
    }
}
