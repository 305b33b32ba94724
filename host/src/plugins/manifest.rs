//! What a file says about itself, read from its bytes: nothing is mapped, and none of its code runs.

use std::fmt;
use std::fs;
use std::io::Read;
use std::mem::{offset_of, size_of};
use std::path::Path;

use object::elf::FileHeader32;
use object::elf::FileHeader64;
use object::read::elf::{ElfFile, FileHeader, ProgramHeader};
use object::read::macho::{FatArch, MachOFatFile32, MachOFatFile64};
use object::{Architecture, Endianness, File, FileKind, Object, ObjectKind, ObjectSegment};
use pilotfish_plugin::rt::{
    API_MAJOR, BINDING_RUST, MAGIC, MANIFEST_SYMBOL, Manifest as Wire, ManifestText, PANIC_UNWIND,
};

use super::error::{LoadError, Problem, plain};

/// A larger file is not read. Bytes.
const MAX_FILE: u64 = 1 << 30;
/// Where the manifest of 1.0 ends: later ones are longer, and begin with the same fields. Bytes.
const MANIFEST_SIZE: usize = offset_of!(Wire, description) + size_of::<ManifestText>();

/// What a plugin file is, by its own account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The plugin's name, unique among the plugins of a session: a-z, 0-9, `-` and `_`.
    pub id: String,
    /// The plugin's own version.
    pub version: String,
    /// One line about it, perhaps empty.
    pub description: String,
    /// Major and minor version of the interface that it was built against.
    pub api: (u16, u16),
    /// Whether it was built without optimisation.
    pub debug_assertions: bool,
    /// The processor and operating system that it was built for.
    pub target: Target,
    /// The size of the file in bytes.
    pub file_size: u64,
    /// The manifest as it stands in the file, to be compared with the one in memory.
    pub(super) raw: Vec<u8>,
}

/// What a library is built for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The processor, as Rust names it.
    pub arch: String,
    /// The operating system. Most ELF files do not tell: they are taken to be for a host that uses ELF.
    pub system: &'static str,
    /// Whether the most significant byte comes first.
    pub big_endian: bool,
}

impl Target {
    /// What this host is built for.
    pub fn host() -> Self {
        Self {
            arch: std::env::consts::ARCH.to_owned(),
            system: host_system(),
            big_endian: cfg!(target_endian = "big"),
        }
    }

    fn of(file: &File<'_>) -> Self {
        let system = match file {
            File::Elf32(elf) => elf_system(elf.elf_header().e_ident.os_abi),
            File::Elf64(elf) => elf_system(elf.elf_header().e_ident.os_abi),
            File::MachO32(_) | File::MachO64(_) => "macOS",
            _ => "Windows",
        };
        Self {
            arch: rust_name(file.architecture()),
            system,
            big_endian: file.endianness() == Endianness::Big,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.arch, self.system)?;
        if self.big_endian { f.write_str(" (big-endian)") } else { Ok(()) }
    }
}

/// Reads a file's manifest, and refuses what this host cannot load.
///
/// # Errors
/// Whatever stands in the way of `dlopen` or of understanding what it would bring in.
pub fn inspect(path: &Path) -> Result<Manifest, LoadError> {
    read(path).and_then(|bytes| judge(&bytes)).map_err(|problem| problem.at(path))
}

/// The whole file. Kinds that block or never end when read are refused before.
fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let kind = fs::metadata(path).map_err(Problem::Unreadable)?;
    if kind.is_dir() {
        return Err(Problem::Directory);
    }
    if !kind.is_file() {
        return Err(Problem::NotAFile);
    }
    if kind.len() > MAX_FILE {
        return Err(Problem::TooLarge(kind.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(kind.len()).unwrap_or(0));
    let file = fs::File::open(path).map_err(Problem::Unreadable)?;
    // It may have grown since its size was asked for.
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(Problem::Unreadable)?;
    Ok(bytes)
}

fn judge(bytes: &[u8]) -> Result<Manifest, Problem> {
    let bytes = our_slice(bytes)?;
    check_extent(bytes)?;
    let file = File::parse(bytes).map_err(Problem::Malformed)?;
    check_kind(&file)?;
    let target = check_target(&file)?;
    check_libc(&file)?;
    decode(manifest_bytes(&file)?, target, bytes.len() as u64)
}

/// The library itself: one of several in a universal file of macOS, else the whole file.
fn our_slice(bytes: &[u8]) -> Result<&[u8], Problem> {
    if bytes.is_empty() {
        return Err(Problem::Empty);
    }
    // A header that is cut may be shorter than what the format is recognised by.
    if bytes.len() < 16 && bytes.starts_with(b"\x7fELF") {
        return Err(cut_off("the header", size_of::<FileHeader32<Endianness>>() as u64, bytes));
    }
    match FileKind::parse(bytes) {
        Ok(FileKind::Elf32 | FileKind::Elf64 | FileKind::MachO32 | FileKind::MachO64) => Ok(bytes),
        Ok(FileKind::Pe32 | FileKind::Pe64) => Ok(bytes),
        Ok(FileKind::MachOFat32) => {
            let fat = MachOFatFile32::parse(bytes).map_err(Problem::Malformed)?;
            ours_among(fat.arches(), bytes)
        }
        Ok(FileKind::MachOFat64) => {
            let fat = MachOFatFile64::parse(bytes).map_err(Problem::Malformed)?;
            ours_among(fat.arches(), bytes)
        }
        _ => Err(Problem::NotALibrary),
    }
}

fn ours_among<'a>(arches: &[impl FatArch], bytes: &'a [u8]) -> Result<&'a [u8], Problem> {
    let host = Target::host();
    let found = arches.iter().find(|arch| rust_name(arch.architecture()) == host.arch).or(arches.first());
    found.ok_or(Problem::NotALibrary)?.data(bytes).map_err(Problem::Malformed)
}

/// Whether all of an ELF file is there. (The parsers of the other formats see to that themselves.)
fn check_extent(bytes: &[u8]) -> Result<(), Problem> {
    match FileKind::parse(bytes) {
        Ok(FileKind::Elf32) => elf_extent::<FileHeader32<Endianness>>(bytes),
        Ok(FileKind::Elf64) => elf_extent::<FileHeader64<Endianness>>(bytes),
        _ => Ok(()),
    }
}

fn elf_extent<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<(), Problem> {
    if bytes.len() < size_of::<H>() {
        return Err(cut_off("the header", size_of::<H>() as u64, bytes));
    }
    let header = H::parse(bytes).map_err(Problem::Malformed)?;
    let endian = header.endian().map_err(Problem::Malformed)?;
    let table = |start: u64, rows: u16, size: u16| start.saturating_add(u64::from(rows) * u64::from(size));

    let end = table(header.e_phoff(endian).into(), header.e_phnum(endian), header.e_phentsize(endian));
    within("the table of segments", end, bytes)?;
    for segment in header.program_headers(endian, bytes).map_err(Problem::Malformed)? {
        let start: u64 = segment.p_offset(endian).into();
        within("a segment", start.saturating_add(segment.p_filesz(endian).into()), bytes)?;
    }
    let end = table(header.e_shoff(endian).into(), header.e_shnum(endian), header.e_shentsize(endian));
    within("the table of sections", end, bytes)
}

fn within(part: &'static str, end: u64, bytes: &[u8]) -> Result<(), Problem> {
    if end <= bytes.len() as u64 { Ok(()) } else { Err(cut_off(part, end, bytes)) }
}

fn cut_off(part: &'static str, end: u64, bytes: &[u8]) -> Problem {
    Problem::CutOff { part, end, size: bytes.len() as u64 }
}

fn check_kind(file: &File<'_>) -> Result<(), Problem> {
    match file.kind() {
        // A position-independent executable looks like a library; it has no manifest.
        ObjectKind::Dynamic => Ok(()),
        ObjectKind::Executable => Err(Problem::NotShared("an executable")),
        ObjectKind::Relocatable => Err(Problem::NotShared("an object file")),
        ObjectKind::Core => Err(Problem::NotShared("a memory dump")),
        _ => Err(Problem::NotALibrary),
    }
}

fn check_target(file: &File<'_>) -> Result<Target, Problem> {
    let (built_for, host) = (Target::of(file), Target::host());
    let width = if file.is_64() { 64 } else { 32 };
    if built_for == host && width == usize::BITS {
        Ok(host)
    } else {
        Err(Problem::WrongTarget { built_for, host })
    }
}

/// A library for musl names it as what it needs; loaded beside glibc, it would fail in ways that name neither.
fn check_libc(file: &File<'_>) -> Result<(), Problem> {
    let built_with = match file {
        File::Elf32(elf) => libc_of(elf),
        File::Elf64(elf) => libc_of(elf),
        _ => None,
    };
    let host = match () {
        () if cfg!(target_env = "gnu") => "glibc",
        () if cfg!(target_env = "musl") => "musl",
        () => return Ok(()),
    };
    match built_with {
        Some(built_with) if built_with != host => Err(Problem::WrongLibc { built_with, host }),
        _ => Ok(()),
    }
}

fn libc_of<H: FileHeader<Endian = Endianness>>(elf: &ElfFile<'_, H>) -> Option<&'static str> {
    let table = elf.elf_dynamic_table().ok()?;
    table.iter().filter(|row| row.tag == object::elf::DT_NEEDED).find_map(|row| {
        let name = table.string(row).ok()?;
        match name {
            b"libc.so.6" => Some("glibc"),
            _ if name.starts_with(b"libc.musl-") => Some("musl"),
            _ => None,
        }
    })
}

/// The bytes behind the manifest's symbol. They hold no pointers, so they are in memory what they are in the file.
fn manifest_bytes<'a>(file: &File<'a>) -> Result<&'a [u8], Problem> {
    let exports = file.exports().map_err(Problem::Malformed)?;
    let is_it = |name: &[u8]| match file {
        File::MachO32(_) | File::MachO64(_) => name.strip_prefix(b"_") == Some(MANIFEST_SYMBOL.as_bytes()),
        _ => name == MANIFEST_SYMBOL.as_bytes(),
    };
    let symbol = exports.iter().find(|export| is_it(export.name())).ok_or(Problem::NoManifest)?;
    file.segments()
        .find_map(|segment| segment.data_range(symbol.address(), MANIFEST_SIZE as u64).ok().flatten())
        .ok_or(Problem::BadManifest("it is not in the file"))
}

/// Reads the fields. Those that no version may change come first: they tell what is wrong with the others.
fn decode(raw: &[u8], target: Target, file_size: u64) -> Result<Manifest, Problem> {
    let field = |at: usize, len: usize| raw.get(at..at + len).ok_or(Problem::BadManifest("it is cut off"));
    let byte = |at: usize| Ok::<_, Problem>(field(at, 1)?[0]);
    let short = |at: usize| Ok::<_, Problem>(u16::from_ne_bytes([byte(at)?, byte(at + 1)?]));
    let text = |at: usize| {
        let bytes = field(at + 1, usize::from(byte(at)?).min(size_of::<ManifestText>() - 1))?;
        Ok::<_, Problem>(plain(String::from_utf8_lossy(bytes)))
    };

    if field(offset_of!(Wire, magic), MAGIC.len())? != MAGIC {
        return Err(Problem::BadManifest("it does not begin as one"));
    }
    let api = (short(offset_of!(Wire, api_major))?, short(offset_of!(Wire, api_minor))?);
    if api.0 != API_MAJOR {
        return Err(Problem::WrongApi { major: api.0, minor: api.1 });
    }
    let at = offset_of!(Wire, size);
    let size = u32::from_ne_bytes([byte(at)?, byte(at + 1)?, byte(at + 2)?, byte(at + 3)?]);
    if (size as usize) < MANIFEST_SIZE {
        return Err(Problem::BadManifest("it is too short"));
    }
    let binding = short(offset_of!(Wire, binding))?;
    if binding != BINDING_RUST {
        return Err(Problem::UnknownBinding(binding));
    }
    if byte(offset_of!(Wire, panic_strategy))? != PANIC_UNWIND {
        return Err(Problem::PanicAborts);
    }
    let id = text(offset_of!(Wire, id))?;
    if id.is_empty() || !id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')) {
        return Err(Problem::BadId(id));
    }
    Ok(Manifest {
        id,
        version: text(offset_of!(Wire, version))?,
        description: text(offset_of!(Wire, description))?,
        api,
        debug_assertions: byte(offset_of!(Wire, debug_assertions))? != 0,
        target,
        file_size,
        raw: field(0, MANIFEST_SIZE)?.to_owned(),
    })
}

/// An architecture as `std::env::consts::ARCH` spells it.
fn rust_name(arch: Architecture) -> String {
    match arch {
        Architecture::I386 => "x86".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn host_system() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "macOS",
        "windows" => "Windows",
        "freebsd" => "FreeBSD",
        "netbsd" => "NetBSD",
        "openbsd" => "OpenBSD",
        "solaris" | "illumos" => "Solaris",
        other => other,
    }
}

fn elf_system(os_abi: u8) -> &'static str {
    match os_abi {
        2 => "NetBSD",
        6 => "Solaris",
        9 => "FreeBSD",
        12 => "OpenBSD",
        _ if cfg!(any(windows, target_vendor = "apple")) => "Linux",
        _ => host_system(),
    }
}

#[cfg(test)]
mod tests;
