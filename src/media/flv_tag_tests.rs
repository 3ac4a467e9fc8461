use super::*;
use crate::media::payload::Span;

const AVCC: &[u8] = &[
    0x01, 0x64, 0x00, 0x0a, 0xff, 0xe1, 0x00, 0x17, 0x67, 0x64, 0x00, 0x0a, 0xac, 0xd9, 0x5e, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00, 0x00,
    0x03, 0x00, 0xc8, 0x3c, 0x48, 0x96, 0x58, 0x01, 0x00, 0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
];

fn video_case(body: &[u8]) -> String {
    match parse_video(Payload::contiguous(body)) {
        Ok(VideoUnit::Config(track)) => format!("config {}x{}, {} bytes", track.width, track.height, track.config.len()),
        Ok(VideoUnit::Frame(_, part)) => {
            format!("frame key {} cts {} header {} media {:02x?}", part.key, part.cts_ms, part.tag_header.as_slice().len(), part.media.to_vec())
        }
        Ok(VideoUnit::Unsupported { codec }) => codec.to_owned(),
        Ok(unit) => format!("{unit:?}"),
        Err(error) => error.to_string(),
    }
}

fn audio_case(body: &[u8]) -> String {
    match parse_audio(Payload::contiguous(body)) {
        Ok(AudioUnit::Config(track)) => format!("config {} Hz, {} channels, {:02x?}", track.sample_rate_hz, track.channels, &track.config[..]),
        Ok(AudioUnit::Frame(_, part)) => format!("frame header {} media {:02x?}", part.tag_header.as_slice().len(), part.media.to_vec()),
        Ok(AudioUnit::Unsupported { codec }) => codec.to_owned(),
        Ok(unit) => format!("{unit:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn video_tags() {
    let config = [&[0x17, 0, 0, 0, 0], AVCC].concat();
    let broken_sps = [&config[..13], &[0x67, 0, 0, 0], &config[17..]].concat();
    let cases: &[(&[u8], &str)] = &[
        (&[], "Empty"),
        (&config, "config 16x16, 44 bytes"),
        (&broken_sps, "config 0x0, 44 bytes"),
        (&config[..20], "reading the AVC sequence header"),
        (&[0x17, 0, 0, 0, 0], "Empty"),
        (&[0x17, 1, 0, 0, 0], "Empty"),
        (&[0x17, 1, 0, 0, 80, 9], "frame key true cts 80 header 5 media [09]"),
        (&[0x27, 1, 0xff, 0xff, 0xd8, 9, 8], "frame key false cts -40 header 5 media [09, 08]"),
        (&[0x47, 1, 0x7f, 0xff, 0xff, 9], "frame key true cts 8388607 header 5 media [09]"),
        (&[0x27, 1, 0], "video tag of 3 bytes ends inside its header"),
        (&[0x27, 3, 0, 0, 0, 1], "unknown AVCPacketType 3 in the video tag"),
        (&[0x17, 2, 0, 0, 0], "EndOfSequence"),
        (&[0x17, 2], "EndOfSequence"),
        (&[0x57, 0], "Info"),
        (&[0x52, 1], "Info"),
        (&[0x12, 1, 2, 3], "Sorenson H.263"),
        (&[0x1c, 0, 0, 0, 0, 1], "reading the HEVC sequence header"),
        (&[0x1c, 1, 0, 0, 40, 7], "frame key true cts 40 header 5 media [07]"),
        (&[0x1d, 1, 0, 0, 40, 7], "AV1"),
        (&[0x10, 0, 0, 0, 0, 1], "unknown CodecID 0 in the video tag"),
        (&[b"\x90avc1", AVCC].concat(), "config 16x16, 44 bytes"),
        (b"\x90hvc1\x01", "reading the HEVC sequence header"),
        (b"\x90av01\x81\x00\x0c\x00\x0a\x0b\x02\x00\x00\x05\x1d\xa7\xfb\x80\x5f\x00\x08", "config 160x120, 17 bytes"),
        (b"\x90av01\x01", "the av1 sequence header cannot be read"),
        (b"\x90vp09\x00\x0a\x82\x02\x02\x02\x00\x00", "config 0x0, 8 bytes"),
        (b"\x90vp09\x01\x00\x00\x00\x00\x0a\x82\x02\x02\x02\x00\x00", "config 0x0, 8 bytes"),
        (b"\x90hvc1", "Empty"),
        (b"\x91hvc1\xff\xff\xd8\x09", "frame key true cts -40 header 8 media [09]"),
        (b"\xa3hvc1\x09", "frame key false cts 0 header 5 media [09]"),
        (b"\x91av01\x09\x08", "frame key true cts 0 header 5 media [09, 08]"),
        (b"\x91hvc1\x00", "video tag of 6 bytes ends inside its header"),
        (b"\x91hvc1\x00\x00\x00", "Empty"),
        (b"\x92hvc1", "EndOfSequence"),
        (b"\xd4hvc1\x05", "Info"),
        (b"\xd1hvc1\x05", "Info"),
        (b"\x95av01\x80", "enhanced: AV1 described for MPEG-2 TS"),
        (b"\x98hvc1\x05", "enhanced: unknown packet of video"),
        (b"\x91mp4v\x01", "enhanced: unknown video"),
        (b"\x91av0", "video tag of 4 bytes ends inside its header"),
        (b"\x96\x01av01\x00\x09", "frame key true cts 0 header 7 media [09]"),
        (b"\x97\x02\x00\x01\x02\x01hvc1\x00\x00\x28\x09", "frame key true cts 40 header 13 media [09]"),
    ];
    for (body, expected) in cases {
        assert_eq!(video_case(body), *expected, "{body:02x?}");
    }
    let Ok(VideoUnit::Config(track)) = parse_video(Payload::contiguous(&config)) else { panic!("no configuration") };
    assert_eq!((&track.config[..], &track.sequence_header[..]), (AVCC, &config[..]));
}

#[test]
fn audio_tags() {
    let cases: &[(&[u8], &str)] = &[
        (&[], "Empty"),
        (&[0xaf, 0, 0x12, 0x10], "config 44100 Hz, 2 channels, [12, 10]"),
        (&[0xaf, 0, 0x12], "reading the AAC sequence header"),
        (&[0xaf, 0, 0xf9, 0x46, 0x40], "MPEG-4 audio other than AAC"),
        (&[0xaf, 0], "Empty"),
        (&[0xaf, 1], "Empty"),
        (&[0xaf, 1, 0x21], "frame header 2 media [21]"),
        (&[0xaf], "audio tag of 1 bytes ends inside its header"),
        (&[0xaf, 2, 0], "unknown AACPacketType 2 in the audio tag"),
        (&[0x2f], "Empty"),
        (&[0x2f, 0xff, 0xfb], "frame header 1 media [ff, fb]"),
        (&[0xef, 0xff, 0xe3], "frame header 1 media [ff, e3]"),
        (&[0x7f, 1], "G.711 A-law"),
        (&[0xb2, 1], "Speex"),
        (b"\x90mp4a\x12\x10", "config 44100 Hz, 2 channels, [12, 10]"),
        (b"\x90Opus\x4fpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0", "config 48000 Hz, 2 channels, [00, 02, 01, 38, 00, 00, bb, 80, 00, 00, 00]"),
        (b"\x90Opus\x01", "the opus sequence header cannot be read"),
        (b"\x90fLaC\x01", "the flac sequence header cannot be read"),
        (b"\x90ac-3\x01", "Empty"),
        (b"\x90ec-3", "Empty"),
        (b"\x91Opus\xf8\x01", "frame header 5 media [f8, 01]"),
        (b"\x91Opus", "Empty"),
        (b"\x92Opus", "EndOfSequence"),
        (b"\x94Opus\x01\x02", "Multichannel([148, 79, 112, 117, 115, 1, 2])"),
        (b"\x93Opus\x01", "enhanced: unknown packet of audio"),
        (b"\x91alac\x01", "enhanced: unknown audio"),
        (b"\x95\x01Opus\x00\xf8", "frame header 7 media [f8]"),
    ];
    for (body, expected) in cases {
        assert_eq!(audio_case(body), *expected, "{body:02x?}");
    }
}

#[test]
fn sequence_headers_are_bounded() {
    let mut long = vec![0; SEQUENCE_HEADER_BYTES_MAX + 1];
    long[0] = 0x17;
    assert_eq!(video_case(&long), format!("sequence header of {} bytes, at most {SEQUENCE_HEADER_BYTES_MAX} are taken", long.len()));
    long[0] = 0xaf;
    assert!(audio_case(&long).starts_with("sequence header of"));
}

#[test]
fn frames_describe_themselves_in_any_pieces() {
    // codec, frame, rate, channels, samples of a frame
    let cases: [(AudioCodec, &[u8], u32, u8, u32); 3] = [
        (AudioCodec::Mp3, &[0xff, 0xfb, 0x92, 0x64, 0, 0], 44_100, 2, 1152),
        (AudioCodec::Ac3, &[0x0b, 0x77, 0xfc, 0x86, 0x0c, 0x40, 0x2f, 0x84, 1], 48_000, 1, 1536),
        (AudioCodec::Eac3, &[0x0b, 0x77, 0x00, 0xbf, 0x32, 0x87, 0xc0, 0x00, 1], 48_000, 1, 1536),
    ];
    for (codec, input, rate_hz, channels, samples) in cases {
        for cut in 0..=input.len() as u32 {
            let spans = [Span { start: 0, end: cut }, Span { start: cut, end: input.len() as u32 }];
            let track = described_audio(codec, &Payload::chunked(&[], input, &spans)).expect("a header");
            assert_eq!((track.codec, track.sample_rate_hz, track.channels, track.samples_per_frame), (codec, rate_hz, channels, samples));
        }
        assert_eq!(described_audio(codec, &Payload::contiguous(&input[..3])), None);
        assert_eq!(described_audio(AudioCodec::Opus, &Payload::contiguous(input)), None);
    }
    assert_eq!(described_audio(AudioCodec::Mp3, &Payload::contiguous(b"ID3\x04")), None);
    assert_eq!(described_audio(AudioCodec::Ac3, &Payload::contiguous(cases[2].1)), None);
}

#[test]
fn key_frames_bring_the_size_that_records_lack() {
    let frame = [0x82, 0x49, 0x83, 0x42, 0x00, 0x09, 0xf0, 0x07, 0x76, 0x06, 0x38, 0x24];
    let frame = Payload::contiguous(&frame);
    let alone = described_video(VideoCodec::Vp9, &frame, None).unwrap();
    assert_eq!((alone.width, alone.height, &alone.config[..]), (160, 120, &[0, 0, 0x82, 2, 2, 2, 0, 0][..]));
    let known = VideoTrack::new(VideoCodec::Vp9, vec![1; 8], 0, 0);
    let sized = described_video(VideoCodec::Vp9, &frame, Some(&known)).unwrap();
    assert_eq!((sized.width, sized.height, &sized.config[..]), (160, 120, &[1; 8][..]));
    assert_eq!(described_video(VideoCodec::Vp9, &frame, Some(&sized)), None);
    assert_eq!(described_video(VideoCodec::Avc, &frame, None), None);
    let frame = Payload::contiguous(&[0x12, 0, 0x0a, 0x0b, 0x02, 0x00, 0x00, 0x05, 0x1d, 0xa7, 0xfb, 0x89, 0x5f, 0x20, 0x08, 0x32]);
    let known = VideoTrack::new(VideoCodec::Av1, vec![0x81, 0, 0x0c, 0], 0, 0);
    assert_eq!(described_video(VideoCodec::Av1, &frame, Some(&known)).map(|track| (track.width, track.height)), Some((160, 120)));
    assert_eq!(described_video(VideoCodec::Av1, &frame, None), None);
}

#[test]
fn several_tracks_in_one_message_come_apart() {
    let message = b"\x96\x11av01\x00\x00\x00\x02ab\x01\x00\x00\x01c";
    let Ok(VideoUnit::Many(mut packets)) = parse_video(Payload::contiguous(message)) else { panic!("many packets") };
    for (id, media) in [(0, &b"ab"[..]), (1, b"c")] {
        let packet = packets.next().unwrap().unwrap();
        assert_eq!(packet.track_id, Some(id));
        let Ok(VideoUnit::Frame(VideoCodec::Av1, part)) = video_packet(packet) else { panic!("a frame") };
        assert_eq!((part.key, part.media.to_vec()), (true, media.to_vec()));
    }
    assert!(packets.next().is_none());
    assert!(matches!(parse_video(Payload::contiguous(b"\x96\x01av01\x02x")), Ok(VideoUnit::OfTrack(packet)) if packet.track_id == Some(2)));
    assert!(matches!(parse_audio(Payload::contiguous(b"\x95\x01Opus\x02x")), Ok(AudioUnit::OfTrack(packet)) if packet.track_id == Some(2)));
}

#[test]
fn fuzz_target_holds_at_every_cut() {
    let bodies: &[&[u8]] = &[
        &[&[0x17, 0, 0, 0, 0], AVCC].concat(),
        &[0x27, 1, 0xff, 0xff, 0xd8, 9, 8],
        &[0xaf, 0, 0x12, 0x10],
        &[0xaf, 1, 0x21, 7],
        b"\x90hvc1\x01",
        b"\x91hvc1\x00\x00\x28\x09\x08",
        b"\x97\x02\x00\x01\x02\x01hvc1\x00\x00\x28\x09",
        b"\x96\x11av01\x00\x00\x00\x02ab\x01\x00\x00\x01c",
        b"\x95\x01Opus\x02x",
        b"\x90Opus\x4fpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0",
        &[0x2f, 0xff, 0xfb, 0x92, 0x64],
    ];
    for body in bodies {
        for cut in 0..=body.len() as u8 {
            fuzz_flv_tag(&[&[cut], *body].concat());
        }
    }
}

#[test]
fn headers_of_adts_come_off() {
    let access_unit = [0x21, 0x10, 0x04, 0x60];
    let framed = [&[0xff, 0xf1, 0x50, 0x40, 0x01, 0x7f, 0xfc][..], &access_unit].concat();
    for (tag_header, sequence_header) in [(&[0xaf, 1][..], &[0xaf, 0, 0x12, 0x08][..]), (b"\x91mp4a", b"\x90mp4a\x12\x08")] {
        let (unit, track) = without_adts(tag_header, &Payload::contiguous(&framed)).unwrap();
        assert_eq!(unit.to_vec(), access_unit);
        assert_eq!(
            (track.sample_rate_hz, track.channels, &track.config[..], &track.sequence_header[..]),
            (44_100, 1, &[0x12, 0x08][..], sequence_header)
        );
    }
    // A frame as it should be, one that only begins alike, and what is cut.
    assert!(without_adts(&[0xaf, 1], &Payload::contiguous(&access_unit)).is_none());
    assert!(without_adts(&[0xaf, 1], &Payload::contiguous(&[&framed[..], &[0]].concat())).is_none());
    for cut in 0..framed.len() {
        assert!(without_adts(&[0xaf, 1], &Payload::contiguous(&framed[..cut])).is_none(), "cut at {cut}");
    }
}
