//! Parameter sets that an encoder changes without a new sequence header: they stand in front of a key frame.

use super::{Payload, VideoCodec, VideoTrack};
use crate::codec::{av1, avc, hevc};

/// Units in front of the picture that are looked at: delimiter, parameter sets and supplemental information are a handful.
const UNITS_MAX: usize = 32;
/// The longest parameter set that is taken.
const SET_BYTES_MAX: usize = 4096;
/// Where an AV1 sequence header is looked for: it is the first or second unit of a key frame.
const AV1_HEAD_BYTES: usize = 256;

/// The track as the parameter sets in a key frame say, where that is not what is `known`. Those for pictures alone (PPS) are no reason: decoders take them
/// from where they stand.
pub fn changed_by(known: &VideoTrack, frame: &Payload<'_>) -> Option<VideoTrack> {
    let (config, (width, height)) = match known.codec {
        VideoCodec::Avc => avc(&known.config, frame)?,
        VideoCodec::Hevc => hevc(&known.config, frame)?,
        VideoCodec::Av1 => av1(&known.config, frame)?,
        VideoCodec::Vvc | VideoCodec::Vp8 | VideoCodec::Vp9 => return None,
    };
    let header = known.sequence_header.strip_suffix(&known.config[..]);
    let sequence_header = header.map(|header| [header, &config].concat()).unwrap_or_default();
    Some(VideoTrack { config: config.into(), sequence_header: sequence_header.into(), width, height, ..known.clone() })
}

/// A configuration record, and the size of the picture.
type Described = (Vec<u8>, (u32, u32));

fn avc(config: &[u8], frame: &Payload<'_>) -> Option<Described> {
    let length_bytes = usize::from(config.get(4)? & 3) + 1;
    let sets = sets(frame, length_bytes, |header| match header & 0x1f {
        1..=5 => Unit::Picture,
        avc::NAL_SPS | avc::NAL_PPS => Unit::Set,
        _ => Unit::Other,
    });
    let of_type = |wanted: u8| sets.iter().filter(move |set| set[0] & 0x1f == wanted);
    of_type(avc::NAL_SPS).next()?;
    let known = avc::parse_avc_config(config).ok()?;
    if of_type(avc::NAL_SPS).all(|sps| known.sps.contains(&&sps[..])) {
        return None;
    }
    let size = avc::parse_sps(of_type(avc::NAL_SPS).next()?).ok()?;
    let sps: Vec<&[u8]> = of_type(avc::NAL_SPS).map(Vec::as_slice).collect();
    let pps: Vec<&[u8]> = of_type(avc::NAL_PPS).map(Vec::as_slice).collect();
    let record = avc::avc_config_of(&sps, if pps.is_empty() { &known.pps } else { &pps }, length_bytes)?;
    Some((record, (size.width, size.height)))
}

fn hevc(config: &[u8], frame: &Payload<'_>) -> Option<Described> {
    let known = hevc::parse_hevc_config(config).ok()?;
    let sets = sets(frame, usize::from(known.nal_length_bytes), |header| match hevc::nal_type(header) {
        0..32 => Unit::Picture,
        hevc::NAL_VPS | hevc::NAL_SPS | hevc::NAL_PPS => Unit::Set,
        _ => Unit::Other,
    });
    let is = |wanted: u8| move |set: &&[u8]| hevc::nal_type(set[0]) == wanted;
    let found: Vec<&[u8]> = sets.iter().map(Vec::as_slice).collect();
    let sps = found.iter().copied().find(is(hevc::NAL_SPS))?;
    if found.iter().copied().filter(is(hevc::NAL_SPS)).all(|sps| known.parameter_sets.contains(&sps)) {
        return None;
    }
    let size = hevc::picture_size(sps)?;
    // Profile, tier and level stand in the set as they do in the record (ISO/IEC 14496-15, 8.3.3.1).
    let plain = crate::codec::nal::without_emulation_prevention(sps);
    let mut record = config.get(..22)?.to_vec();
    record[1..13].copy_from_slice(plain.get(3..15)?);
    record.push(0);
    for wanted in [hevc::NAL_VPS, hevc::NAL_SPS, hevc::NAL_PPS] {
        let mut of_type: Vec<&[u8]> = found.iter().copied().filter(is(wanted)).collect();
        if of_type.is_empty() {
            of_type = known.parameter_sets.iter().copied().filter(|set| !set.is_empty()).filter(is(wanted)).collect();
        }
        if !of_type.is_empty() {
            record[22] += 1;
            record.push(0x80 | wanted);
            record.extend_from_slice(&(of_type.len() as u16).to_be_bytes());
            for set in of_type {
                record.extend_from_slice(&(set.len() as u16).to_be_bytes());
                record.extend_from_slice(set);
            }
        }
    }
    Some((record, size))
}

fn av1(config: &[u8], frame: &Payload<'_>) -> Option<Described> {
    let mut head = [0; AV1_HEAD_BYTES];
    let filled = frame.peek(&mut head);
    let found = av1::sequence_header(&head[..filled])?;
    if av1::sequence_header(config.get(4..)?)? == found {
        return None;
    }
    let size = av1::sequence_header_size(found)?;
    let mut record = config[..4].to_vec();
    // The profile is the first of the header; a level may be higher than the picture asks for, not the other way round.
    record[1] = found[0] & 0xe0 | record[1] & 0x1f;
    record.push(av1::SEQUENCE_HEADER_WITH_SIZE);
    let mut rest = found.len();
    while rest > 0x7f {
        record.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    record.push(rest as u8);
    record.extend_from_slice(found);
    Some((record, size))
}

enum Unit {
    Set,
    Picture,
    Other,
}

/// The parameter sets in front of the first picture of an access unit.
fn sets(frame: &Payload<'_>, length_bytes: usize, what: impl Fn(u8) -> Unit) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut at = 0;
    for _ in 0..UNITS_MAX {
        let mut head = [0; 5];
        if frame.skip(at).peek(&mut head) <= length_bytes {
            break;
        }
        let bytes = head[..length_bytes].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        at += length_bytes;
        if bytes == 0 || at + bytes > frame.len() {
            break;
        }
        match what(head[length_bytes]) {
            Unit::Picture => break,
            Unit::Set if bytes <= SET_BYTES_MAX => found.push(frame.skip(at).first(bytes).to_vec()),
            Unit::Set | Unit::Other => {}
        }
        at += bytes;
    }
    found
}

/// Any record with any key frame: what comes of it can be read.
pub fn fuzz_parameter_sets(data: &[u8]) {
    let Some((&[codec, cut], rest)) = data.split_first_chunk() else { return };
    let (config, frame) = rest.split_at(usize::from(cut).min(rest.len()));
    let codec = [VideoCodec::Avc, VideoCodec::Hevc, VideoCodec::Av1][usize::from(codec) % 3];
    let known = VideoTrack { sequence_header: config.to_vec().into(), ..VideoTrack::new(codec, config.to_vec(), 0, 0) };
    if let Some(track) = changed_by(&known, &Payload::contiguous(frame)) {
        match codec {
            VideoCodec::Avc => assert!(avc::parse_avc_config(&track.config).is_ok()),
            VideoCodec::Hevc => assert!(hevc::parse_hevc_config(&track.config).is_ok()),
            _ => assert_eq!(av1::picture_size(&track.config[4..]), Some((track.width, track.height))),
        }
        assert_eq!(changed_by(&track, &Payload::contiguous(frame)), None, "once is enough");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of x264: 160x120 and 128x96.
    const SPS: [&[u8]; 2] = [&[0x67, 0x42, 0xc0, 0x0b, 0xda, 0x0a, 0x0f, 0x90], &[0x67, 0x42, 0xc0, 0x0b, 0xda, 0x08, 0x0c, 0x90]];
    const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

    fn units(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes()[..], unit].concat()).collect()
    }

    fn avc_track(sps: &[u8]) -> VideoTrack {
        let sent: Vec<u8> = [sps, PPS].iter().flat_map(|set| [&[0, 0, 0, 1][..], set].concat()).collect();
        let config = avc::avc_config_of_annexb(&sent).unwrap();
        let sequence_header = [&[0x17, 0, 0, 0, 0][..], &config].concat();
        VideoTrack { sequence_header: sequence_header.into(), ..VideoTrack::new(VideoCodec::Avc, config, 160, 120) }
    }

    #[test]
    fn other_sets_in_front_of_a_picture_make_another_track() {
        let known = avc_track(SPS[0]);
        let size = |sps: &[u8]| avc::parse_sps(sps).map(|sps| (sps.width, sps.height)).unwrap();
        assert_ne!(size(SPS[0]), size(SPS[1]));
        let key: &[u8] = &[0x65, 1, 2, 3];
        for (name, sent, expected) in [
            ("no sets", units(&[&[0x09, 0xf0], key]), None),
            ("the same", units(&[SPS[0], PPS, key]), None),
            ("another picture parameter set", units(&[SPS[0], &[0x68, 1, 2], key]), None),
            ("another", units(&[&[0x09, 0xf0], SPS[1], PPS, &[6, 1, 1, 0x80], key]), Some(SPS[1])),
            ("without a picture parameter set", units(&[SPS[1], key]), Some(SPS[1])),
            ("behind the picture", units(&[key, SPS[1]]), None),
            ("a set that cannot be read", units(&[&[0x67, 0x42], key]), None),
        ] {
            let found = changed_by(&known, &Payload::contiguous(&sent));
            assert_eq!(found.as_ref().map(|track| (track.width, track.height)), expected.map(size), "{name}");
            let Some(track) = found else { continue };
            let config = avc::parse_avc_config(&track.config).unwrap();
            assert_eq!((config.sps, config.pps), (vec![expected.unwrap()], vec![PPS]), "{name}");
            assert_eq!(track.sequence_header, [&[0x17, 0, 0, 0, 0][..], &track.config].concat(), "{name}");
            assert_eq!(changed_by(&track, &Payload::contiguous(&sent)), None, "{name}: once");
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_in_front_of_a_picture_is_taken_or_left(data in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            fuzz_parameter_sets(&data);
        }
    }
}
