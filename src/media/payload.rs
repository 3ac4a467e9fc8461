//! Bytes of one message, where they lie: no assembly for the usual case.

/// A range of the receive buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// The bytes of a message or a part of it: first `prefix` (what an earlier read brought), then `spans` of `input` (the chunks of
/// this read). Cheap to copy; borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Payload<'a> {
    prefix: &'a [u8],
    input: &'a [u8],
    spans: &'a [Span],
    /// Bytes of the first span already taken by [`Payload::skip`].
    span_skip: u32,
    len: usize,
}

impl<'a> Payload<'a> {
    pub fn contiguous(bytes: &'a [u8]) -> Self {
        Self { prefix: bytes, input: &[], spans: &[], span_skip: 0, len: bytes.len() }
    }

    /// `spans` index into `input` and must lie inside it.
    #[inline]
    pub fn chunked(prefix: &'a [u8], input: &'a [u8], spans: &'a [Span]) -> Self {
        let spans_len: usize = spans.iter().map(|span| (span.end - span.start) as usize).sum();
        Self { prefix, input, spans, span_skip: 0, len: prefix.len() + spans_len }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The payload without its first `count` bytes (all of them if it is shorter).
    pub fn skip(mut self, count: usize) -> Self {
        let mut count = count.min(self.len);
        self.len -= count;
        let from_prefix = count.min(self.prefix.len());
        self.prefix = &self.prefix[from_prefix..];
        count -= from_prefix;
        while count > 0 {
            let span = self.spans[0];
            let left = (span.end - span.start - self.span_skip) as usize;
            if count < left {
                self.span_skip += count as u32;
                break;
            }
            count -= left;
            self.spans = &self.spans[1..];
            self.span_skip = 0;
        }
        self
    }

    /// The first `count` bytes of the payload (all of them if it is shorter).
    #[inline]
    pub fn first(mut self, count: usize) -> Self {
        self.len = self.len.min(count);
        self
    }

    /// The pieces in order; none is empty.
    pub fn slices(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let (prefix, input, skip, mut left) = (self.prefix, self.input, self.span_skip, self.len);
        let spans = self.spans.iter().enumerate().map(move |(index, span)| {
            let start = span.start + if index == 0 { skip } else { 0 };
            &input[start as usize..span.end as usize]
        });
        // The length cuts the last piece off after `first`.
        let cut = move |slice: &'a [u8]| {
            let slice = &slice[..slice.len().min(left)];
            left -= slice.len();
            slice
        };
        std::iter::once(prefix).chain(spans).map(cut).filter(|slice| !slice.is_empty())
    }

    /// Copies the first bytes into `head`; returns how many there were.
    #[inline]
    pub fn peek(&self, head: &mut [u8]) -> usize {
        // Nearly always all of it lies in the first piece.
        let first = match self.spans.first() {
            Some(span) if self.prefix.is_empty() => &self.input[(span.start + self.span_skip) as usize..span.end as usize],
            _ => self.prefix,
        };
        if let Some(whole) = first.get(..head.len()).filter(|whole| whole.len() <= self.len) {
            head.copy_from_slice(whole);
            return whole.len();
        }
        let mut filled = 0;
        for slice in self.slices() {
            let take = slice.len().min(head.len() - filled);
            head[filled..filled + take].copy_from_slice(&slice[..take]);
            filled += take;
            if filled == head.len() {
                break;
            }
        }
        filled
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        for slice in self.slices() {
            bytes.extend_from_slice(slice);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skip_and_slices_agree_with_a_plain_copy_at_every_offset() {
        let input = *b"..abc..defg.h";
        let spans = [Span { start: 2, end: 5 }, Span { start: 7, end: 11 }, Span { start: 12, end: 13 }];
        let payload = Payload::chunked(b"XY", &input, &spans);
        assert_eq!(payload.to_vec(), b"XYabcdefgh");
        for count in 0..=11 {
            let rest = payload.skip(count);
            assert_eq!(rest.to_vec(), &b"XYabcdefgh"[count.min(10)..], "skip {count}");
            assert_eq!(rest.len(), 10usize.saturating_sub(count));
            let mut head = [0; 4];
            let filled = rest.peek(&mut head);
            assert_eq!(&head[..filled], &rest.to_vec()[..filled]);
            for again in 0..=rest.len() + 1 {
                let first = rest.first(again);
                assert_eq!(first.to_vec(), &rest.to_vec()[..again.min(rest.len())], "first {again}");
                assert_eq!(first.skip(1).to_vec(), first.to_vec().get(1..).unwrap_or_default());
            }
            for again in 0..=rest.len() {
                assert_eq!(rest.skip(again).to_vec(), &b"XYabcdefgh"[(count + again).min(10)..]);
            }
        }
    }
}
