//! The arena file of a process that is gone: which blocks it holds. It may be damaged, or of another version.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};

use crate::container::ReadAt;
use crate::container::window::Near;

use super::arena::{ArenaMap, BlockClass, BlockKind, HEADER_BYTES, MAGIC, Progress, SLAB_UNITS, UNIT_BYTES, VERSION, Word, check_word};

/// What a block of a dead process's arena held.
#[derive(Debug, PartialEq, Eq)]
pub struct OrphanBlock {
    /// Where in the arena it begins.
    pub unit: usize,
    pub kind: BlockKind,
    pub file: u64,
    pub part: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// The header of one unit of an arena file.
struct Header {
    unit: usize,
    words: [u8; HEADER_BYTES],
}

impl Header {
    fn field(&self, word: Word) -> u64 {
        u64_at(&self.words, word as usize)
    }

    /// What the block is, and how many of its bytes hold complete data. `None`: the header makes no sense.
    fn block(&self) -> Option<(BlockKind, usize)> {
        let (file, units, length) = (self.field(Word::File), self.field(Word::Units), Progress::from_word(self.field(Word::Progress)).bytes);
        let kind = match self.field(Word::Kind) {
            1 => BlockKind::Media,
            2 => BlockKind::OpenRecord,
            3 => BlockKind::Log,
            4 => BlockKind::Note,
            _ => return None,
        };
        // A settled block keeps what its header said before; the check is of the file that it had.
        let is_checked = file == 0 || self.field(Word::Check) == self.check() || self.field(Word::Check) == 0;
        let class = BlockClass::ALL.into_iter().find(|class| class.units() as u64 == units)?;
        (is_checked && length <= class.bytes() && self.unit.is_multiple_of(class.units())).then_some((kind, length))
    }

    fn check(&self) -> u64 {
        check_word([Word::File, Word::Kind, Word::Offset, Word::Part, Word::Writer, Word::Units].map(|word| self.field(word)))
    }
}

fn u64_at(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().expect("eight bytes"))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Goes through the headers of the arena file of a process that is gone, as far as the file goes. `take` also gets the offset of the first unit, which
/// is returned.
fn read_headers<R: ReadAt + ?Sized>(file: &R, mut take: impl FnMut(Header, usize) -> io::Result<()>) -> io::Result<usize> {
    let file_bytes = file.len();
    // Headers stand side by side, tens of thousands of them, and are gone through several times.
    let file = Near::new(file);
    let mut first = [0; 32];
    if file.read_at(0, &mut first)? < first.len() {
        return Err(invalid(format!("{file_bytes} bytes are no arena")));
    }
    if u64_at(&first, 0) != MAGIC {
        return Err(invalid("no arena".to_owned()));
    }
    if u64_at(&first, 1) != VERSION {
        return Err(invalid(format!("an arena of version {}, not {VERSION}", u64_at(&first, 1))));
    }
    let slabs = ArenaMap::slabs_of(u64_at(&first, 2), u64_at(&first, 3), file_bytes);
    let slabs = slabs.ok_or_else(|| invalid(format!("{file_bytes} bytes are no length of an arena")))?;
    let data_start = ArenaMap::data_start(slabs);
    for unit in 0..slabs * SLAB_UNITS {
        let mut words = [0; HEADER_BYTES];
        if file.read_at((4096 + unit * HEADER_BYTES) as u64, &mut words)? < words.len() {
            break;
        }
        take(Header { unit, words }, data_start)?;
    }
    Ok(data_start)
}

/// Can everything in the arena file of a process that is gone be read?
///
/// # Errors
/// Why not: no arena, another version, cut off, headers that make no sense.
pub fn examine<R: ReadAt + ?Sized>(file: &R) -> io::Result<()> {
    let file_bytes = file.len();
    let (mut damaged, mut cut_off) = (0, 0);
    let data_start = read_headers(file, |header, data_start| {
        // What is settled is on the disk.
        match header.block() {
            _ if header.field(Word::File) == 0 => {}
            None => damaged += 1,
            Some((_, length)) => cut_off += u64::from(data_start as u64 + (header.unit * UNIT_BYTES + length) as u64 > file_bytes),
        }
        Ok(())
    })?;
    match (damaged, cut_off) {
        _ if file_bytes < data_start as u64 => Err(invalid("the headers of blocks are cut off".to_owned())),
        (0, 0) => Ok(()),
        _ => Err(invalid(format!("headers of {damaged} blocks are damaged, {cut_off} blocks are cut off"))),
    }
}

/// Reads those blocks in the arena file of a process that is gone that are `wanted` by kind and file, and hands each to `take`. File 0: settled, not used
/// anew since.
///
/// # Errors
/// If the file cannot be read or is no arena. A header that makes no sense is skipped, a block that is cut off has what is left of it (see [`examine`]).
pub fn read_orphans<R: ReadAt + ?Sized>(file: &R, wanted: impl Fn(BlockKind, u64) -> bool, mut take: impl FnMut(OrphanBlock)) -> io::Result<()> {
    read_headers(file, |header, data_start| {
        let (id, part, offset) = (header.field(Word::File), header.field(Word::Part), header.field(Word::Offset));
        let Some((kind, length)) = header.block().filter(|(kind, length)| *length > 0 && wanted(*kind, id)) else { return Ok(()) };
        let mut bytes = vec![0; length];
        let there = file.read_at((data_start + header.unit * UNIT_BYTES) as u64, &mut bytes)?;
        bytes.truncate(there);
        if there > 0 {
            take(OrphanBlock { unit: header.unit, kind, file: id, part, offset, bytes });
        }
        Ok(())
    })?;
    Ok(())
}

/// For each writer of media blocks, the number of the first frame that it had not taken, as the arena file of a process that is gone tells it.
///
/// Blocks that were on the disk already count too: their headers stand until they are used anew, which the core does that filled them, later.
///
/// # Errors
/// If the file cannot be read or is no arena.
pub fn read_taken<R: ReadAt + ?Sized>(file: &R) -> io::Result<HashMap<u64, u64>> {
    let mut taken = HashMap::new();
    read_headers(file, |header, _| {
        let writer = header.field(Word::Writer);
        if writer != 0 && header.block().is_some_and(|(kind, _)| kind == BlockKind::Media) {
            let known: &mut u64 = taken.entry(writer).or_default();
            *known = (*known).max(Progress::from_word(header.field(Word::Progress)).taken);
        }
        Ok(())
    })?;
    Ok(taken)
}

/// Settles the blocks that begin at `units`, as their process would have: what they hold is where it belongs. Their memory is given back; other blocks stay as
/// they are.
///
/// # Errors
/// If the file cannot be written.
pub fn settle(file: &File, arena: &impl ReadAt, units: &HashSet<usize>) -> io::Result<()> {
    let mut freed = Vec::new();
    let data_start = read_headers(arena, |header, _| {
        if units.contains(&header.unit) {
            let at = 4096 + header.unit * HEADER_BYTES + Word::File as usize * 8;
            file.write_all_at(&0_u64.to_le_bytes(), at as u64)?;
        }
        // Records are asked for their parts when they are settled, too.
        if let Some((BlockKind::Media | BlockKind::Log, _)) = header.block().filter(|_| units.contains(&header.unit) || header.field(Word::File) == 0)
        {
            freed.push((header.unit, header.field(Word::Units) as usize));
        }
        Ok(())
    })?;
    for (unit, units) in freed {
        let (offset, bytes) = (data_start + unit * UNIT_BYTES, units * UNIT_BYTES);
        // A file system without holes keeps the memory.
        let _ = fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset as u64, bytes as u64);
    }
    Ok(())
}

/// An arena of one slab with three blocks, and damage to its headers as `data` says. Nothing panics; blocks whose headers are whole are found.
pub fn fuzz_orphans(data: &[u8]) {
    let mut arena = vec![0; ArenaMap::file_bytes(1)];
    let mut put = |at: usize, word: u64| arena[at..at + 8].copy_from_slice(&word.to_le_bytes());
    for (index, word) in [MAGIC, VERSION, 1, !1].into_iter().enumerate() {
        put(index * 8, word);
    }
    let header_at = |unit: usize| 4096 + unit * HEADER_BYTES;
    // Unit, and file, kind, offset, part, writer as `Block::describe` enters them.
    let blocks =
        [(0, [7, BlockKind::Media as u64, 4096, 1, 3]), (4, [8, BlockKind::OpenRecord as u64, 1, 0, 0]), (8, [9, BlockKind::Log as u64, 0, 0, 5])];
    for (unit, [file, kind, offset, part, writer]) in blocks {
        let units = BlockClass::Small.units() as u64;
        let check = check_word([file, kind, offset, part, writer, units]);
        let progress = Progress { bytes: 5, taken: 9 }.word();
        for (index, word) in [file, offset, progress, units, part, kind, writer, check].into_iter().enumerate() {
            put(header_at(unit) + index * 8, word);
        }
    }
    // A place among the headers, and a word for it.
    let (damages, rest) = data.as_chunks::<10>();
    let mut damaged = Vec::new();
    for damage in damages {
        let at = 4096 + usize::from(u16::from_le_bytes([damage[0], damage[1]])) % (SLAB_UNITS * HEADER_BYTES / 8) * 8;
        arena[at..at + 8].copy_from_slice(&damage[2..]);
        damaged.push((at - 4096) / HEADER_BYTES);
    }
    let mut found = Vec::new();
    read_orphans(
        arena.as_slice(),
        |_, file| file != 0,
        |block| {
            assert!(!block.bytes.is_empty() && block.bytes.len() <= BlockClass::Large.bytes());
            found.push((block.file, block.part, block.offset, block.bytes.len()));
        },
    )
    .expect("the first page is whole");
    for (unit, [file, _, offset, part, _]) in blocks {
        assert!(damaged.contains(&unit) || found.contains(&(file, part, offset, 5)), "the block at {unit}");
    }
    assert!(!damaged.is_empty() || examine(arena.as_slice()).is_ok());
    read_taken(arena.as_slice()).expect("the first page is whole");
    // Now the first page, and the end.
    for (at, byte) in rest.iter().enumerate() {
        arena[at * 3] ^= byte;
    }
    arena.truncate(data.iter().map(|byte| usize::from(*byte) * 16).sum());
    let read = read_orphans(arena.as_slice(), |_, _| true, |_| ()).and_then(|()| read_taken(arena.as_slice()));
    assert!(read.is_ok() || examine(arena.as_slice()).is_err());
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::FileExt;
    use std::path::Path;

    use super::*;
    use crate::segment::arena::tests::arena;

    #[test]
    fn orphans_are_found_after_the_process_is_gone() {
        let (folder, mut arena) = arena(2);
        let path = folder.path().join("core-0.arena");
        let mut kept = arena.allocate(BlockClass::Medium).unwrap();
        kept.write(0, b"first block");
        kept.describe(BlockKind::Media, (42, 3, 0), 8192);
        kept.describe_progress(Progress { bytes: 11, taken: 0 });
        let mut freed = arena.allocate(BlockClass::Small).unwrap();
        freed.write(0, b"gone");
        freed.describe(BlockKind::Media, (43, 1, 0), 0);
        freed.describe_progress(Progress { bytes: 4, taken: 0 });
        arena.free(freed);
        let mut settled = arena.allocate(BlockClass::Small).unwrap();
        settled.write(0, b"on the disk");
        settled.describe(BlockKind::OpenRecord, (44, 1, 0), 0);
        settled.describe_progress(Progress { bytes: 11, taken: 0 });
        settled.settle();
        drop((kept, settled, arena));
        let mut found = Vec::new();
        read_orphans(std::fs::read(&path).unwrap().as_slice(), |_, file| file != 0, |orphan| found.push(orphan)).unwrap();
        assert_eq!(found, [OrphanBlock { unit: 0, kind: BlockKind::Media, file: 42, part: 3, offset: 8192, bytes: b"first block".to_vec() }]);
        std::fs::write(&path, b"not an arena at all, only text").unwrap();
        assert!(read_orphans(std::fs::read(&path).unwrap().as_slice(), |_, _| true, |_| ()).is_err());
    }

    /// Damage to an arena file of two slabs, what can be read of its three blocks (1, 2, 3) then, and what is said.
    #[test]
    fn damage_costs_the_blocks_that_it_meets() {
        type Damage = fn(&File);
        let word = |unit: u64, word: Word| 4096 + unit * HEADER_BYTES as u64 + word as u64 * 8;
        let cases: [(&str, Damage, &[u64], Option<&str>); 11] = [
            ("none", |_| (), &[1, 2, 3], None),
            ("magic", |file| file.write_all_at(b"x", 0).unwrap(), &[], Some("no arena")),
            ("version", |file| file.write_all_at(&[3], 8).unwrap(), &[], Some("an arena of version 3, not 4")),
            ("an earlier server's, of the same version", |file| file.write_all_at(&[0; 16], 16).unwrap(), &[1, 2, 3], None),
            ("number of slabs", |file| file.write_all_at(&[77], 16).unwrap(), &[1, 2, 3], None),
            ("end, unused", |file| file.set_len(file.metadata().unwrap().len() - 5000).unwrap(), &[1, 2, 3], None),
            (
                "end, a block lies there",
                |file| file.set_len(ArenaMap::data_start(2) as u64 + 20).unwrap(),
                &[1],
                Some("headers of 0 blocks are damaged, 2 blocks are cut off"),
            ),
            ("the headers' end", |file| file.set_len(4096 + 64 * 20).unwrap(), &[], Some("the headers of blocks are cut off")),
            ("all but the beginning of the first page", |file| file.set_len(20).unwrap(), &[], Some("20 bytes are no arena")),
            ("nothing left", |file| file.set_len(0).unwrap(), &[], Some("0 bytes are no arena")),
            (
                "number of slabs and end",
                |file| {
                    file.write_all_at(&[77], 16).unwrap();
                    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
                },
                &[],
                Some("2109439 bytes are no length of an arena"),
            ),
        ];
        let written = || {
            let (folder, mut arena) = arena(2);
            // Units 0, 4 and 64.
            for (number, class) in [(1, BlockClass::Small), (2, BlockClass::Small), (3, BlockClass::Large)] {
                let mut block = arena.allocate(class).unwrap();
                block.write(0, format!("block {number}").as_bytes());
                block.describe(BlockKind::Media, (number, 1, number), 0);
                block.describe_progress(Progress { bytes: 7, taken: number });
            }
            let path = folder.path().join("core-0.arena");
            (folder, path)
        };
        let found = |path: &Path| {
            let (bytes, mut found) = (std::fs::read(path).unwrap(), Vec::new());
            let read = read_orphans(
                bytes.as_slice(),
                |_, file| file != 0,
                |orphan| {
                    assert_eq!(orphan.bytes, format!("block {}", orphan.file).as_bytes());
                    found.push(orphan.file);
                },
            );
            (found, read.err().or(examine(bytes.as_slice()).err()).map(|error| error.to_string()))
        };
        for (name, damage, readable, said) in cases {
            let (_folder, path) = written();
            damage(&OpenOptions::new().write(true).open(&path).unwrap());
            assert_eq!(found(&path), (readable.to_vec(), said.map(str::to_owned)), "{name}");
        }
        for bad in [Word::File, Word::Offset, Word::Units, Word::Part, Word::Kind, Word::Writer] {
            let (_folder, path) = written();
            OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[9], word(4, bad)).unwrap();
            let said = "headers of 1 blocks are damaged, 0 blocks are cut off".to_owned();
            assert_eq!(found(&path), (vec![1, 3], Some(said)), "word {}", bad as usize);
            assert_eq!(read_taken(std::fs::read(&path).unwrap().as_slice()).unwrap(), HashMap::from([(1, 1), (3, 3)]), "word {}", bad as usize);
        }
    }

    proptest::proptest! {
        #[test]
        fn damaged_headers_cost_nothing_else(data in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            fuzz_orphans(&data);
        }
    }
}
