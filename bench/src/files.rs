//! How fast are files over HTTP: one that is large, many that are small, and many in one archive?
//!
//! The floors: `cp` of the same file on the same disk; nginx over the same files; ours, one file a request. What is written is synced before it is
//! answered, which neither `cp` nor nginx do: beside them stands a floor that writes, syncs and renames as ours does, without HTTP.

use crate::Bench;
use crate::api::{Herd, path};
use crate::client::{self, Connection};
use crate::compare::{Goal, Row};
use crate::failure::Failure;
use crate::load::{Side, round};
use crate::nginx::Nginx;
use crate::spread::Samples;
use crate::stop;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BYTES: &str = "Content-Type: application/octet-stream\r\n";
const RAW: &str = "Accept: application/octet-stream\r\n";
const PIECE_BYTES: usize = 256 << 10;
const SMALL_BYTES: usize = 4096;
/// Small files in one directory.
const DIRECTORY_FILES: u64 = 100;
const BLOCK: usize = 512;
const HALF: Goal = Goal::RatioAtLeast(0.5);
const NGINX: &str = "nginx";
const NO_NGINX: &str = "nginx is not installed (apt-get install nginx-light)";

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let herd = Herd::new(bench.target);
    let mut connection = herd.connect()?;
    let id = herd.create(&mut connection)?;
    let place = Place::make(bench)?;
    let files = format!("{}/files", path(&id));
    let mut rows = large(bench, &place, &files)?;
    rows.extend(small(bench, &place, &files)?);
    rows.extend(archive(bench, &files)?);
    // The first connection has been silent for too long.
    herd.delete(&mut herd.connect()?, &id)?;
    Ok(rows)
}

/// A directory on the disk that the server uses too; removed when dropped.
struct Place(PathBuf);

impl Place {
    fn make(bench: &Bench<'_>) -> Result<Place, Failure> {
        let home = bench.options.dir.join(format!("workspace-bench-files-{}", std::process::id()));
        std::fs::create_dir(&home).map_err(|error| Failure::io(format!("make {}", home.display()), &error))?;
        Ok(Place(home))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn large(bench: &Bench<'_>, place: &Place, files: &str) -> Result<Vec<Row>, Failure> {
    let mib = bench.options.large_mib;
    let (source, copied) = (place.at("source"), place.at("copied"));
    make_large(&source, mib)?;
    let (mut up, mut down, mut plain, mut synced) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    let rate = |took: Duration| mib as f64 / took.as_secs_f64();
    for _ in 0..bench.options.rounds {
        if stop::requested() {
            break;
        }
        up.push(rate(upload(bench, files, &source, mib << 20)?));
        down.push(rate(download(bench, files, &place.at("down"), mib << 20)?));
        let begin = Instant::now();
        copy(&source, &copied)?;
        plain.push(rate(begin.elapsed()));
        let failed = |error| Failure::io(format!("sync {}", copied.display()), &error);
        File::open(&copied).and_then(|file| file.sync_all()).map_err(failed)?;
        synced.push(rate(begin.elapsed()));
        let _ = std::fs::remove_file(&copied);
        let _ = std::fs::remove_file(place.at("down"));
    }
    Ok(vec![
        Row::new(format!("upload of {mib} MiB, synced"), "MiB/s", &up).beside("cp", &up, &plain).goal(HALF),
        Row::new("the same", "MiB/s", &up).beside("cp, synced", &up, &synced),
        Row::new(format!("download of {mib} MiB to a file"), "MiB/s", &down).beside("cp", &down, &plain).goal(HALF),
    ])
}

fn make_large(at: &Path, mib: u64) -> Result<(), Failure> {
    let failed = |error| Failure::io(format!("write {}", at.display()), &error);
    let mut file = File::create(at).map_err(failed)?;
    let piece: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..mib {
        file.write_all(&piece).map_err(failed)?;
    }
    file.sync_all().map_err(failed)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::io("cp", &error);
    match Command::new("cp").arg(from).arg(to).status().map_err(failed)?.success() {
        true => Ok(()),
        false => Err(Failure::new("cp failed")),
    }
}

fn request(bench: &Bench<'_>, method: &str, path: &str, fields: &str) -> Vec<u8> {
    client::head(method, path, &bench.target.address, bench.target.key.as_deref(), fields)
}

fn upload(bench: &Bench<'_>, files: &str, source: &Path, bytes: u64) -> Result<Duration, Failure> {
    let failed = |error| Failure::io("upload", &error);
    let file = File::open(source).map_err(failed)?;
    let mut connection = bench.target.connect()?;
    let head = request(bench, "PUT", &format!("{files}?path=large"), &format!("{BYTES}Content-Length: {bytes}\r\n"));
    let begin = Instant::now();
    connection.stream().write_all(&head).map_err(failed)?;
    let mut left = bytes;
    while left > 0 {
        match rustix::fs::sendfile(connection.stream(), &file, None, left.min(1 << 30) as usize) {
            Ok(0) => return Err(Failure::new("upload: the file is shorter than it was")),
            Ok(sent) => left -= sent as u64,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    expect(&mut connection, "upload")?;
    Ok(begin.elapsed())
}

/// Waits for an answer that says that all went well.
fn expect(connection: &mut Connection, what: &str) -> Result<(), Failure> {
    let answer = connection.answer(what)?;
    match answer.status {
        200..=204 => Ok(()),
        status => Err(Failure::new(format!("{what}: {status} {:.300}", String::from_utf8_lossy(&answer.body)))),
    }
}

fn download(bench: &Bench<'_>, files: &str, to: &Path, bytes: u64) -> Result<Duration, Failure> {
    let failed = |error| Failure::io("download", &error);
    let mut connection = bench.target.connect()?;
    let head = request(bench, "GET", &format!("{files}?path=large"), &format!("{RAW}Connection: close\r\n"));
    let mut file = File::create(to).map_err(failed)?;
    let begin = Instant::now();
    let stream = connection.stream();
    stream.write_all(&head).map_err(failed)?;
    let (mut piece, mut filled) = (vec![0; PIECE_BYTES], 0);
    let body = loop {
        match stream.read(&mut piece[filled..]).map_err(failed)? {
            0 => return Err(Failure::new("download: no answer")),
            length => filled += length,
        }
        if let Some(end) = piece[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let mut came = (filled - body) as u64;
    file.write_all(&piece[body..filled]).map_err(failed)?;
    loop {
        match stream.read(&mut piece).map_err(failed)? {
            0 => break,
            length => {
                file.write_all(&piece[..length]).map_err(failed)?;
                came += length as u64;
            }
        }
    }
    let took = begin.elapsed();
    if came != bytes {
        return Err(Failure::new(format!("download: {came} bytes instead of {bytes}")));
    }
    Ok(took)
}

fn name(number: u64) -> String {
    format!("small/{}/{number}", number / DIRECTORY_FILES)
}

/// Requests for every small file: of ours, or of nginx.
fn requests(bench: &Bench<'_>, method: &str, at: impl Fn(&str) -> String) -> Vec<Vec<u8>> {
    let body = vec![b's'; SMALL_BYTES];
    let of = |number| {
        let target = at(&name(number));
        if method == "GET" {
            return request(bench, method, &target, RAW);
        }
        let fields = format!("{BYTES}Content-Length: {SMALL_BYTES}\r\n");
        [request(bench, method, &target, &fields), body.clone()].concat()
    };
    (0..bench.options.small_files).map(of).collect()
}

fn small(bench: &Bench<'_>, place: &Place, files: &str) -> Result<Vec<Row>, Failure> {
    let options = bench.options;
    let nginx = Nginx::start(&options.dir)?;
    let ours = |name: &str| format!("{files}?path={name}");
    let theirs = |name: &str| format!("/{name}");
    let time = Duration::from_millis(options.round_ms);
    let mut rows = Vec::new();
    for (method, what) in [("PUT", "writes"), ("GET", "reads")] {
        let (our_requests, their_requests) = (requests(bench, method, ours), requests(bench, method, theirs));
        // All of them once, so that both sides have the same files; counted is what follows.
        fill(bench, &bench.target.address, &our_requests)?;
        if let Some(nginx) = &nginx {
            fill(bench, &nginx.address, &their_requests)?;
        }
        let (mut rate, mut us, mut floor, mut floor_us, mut bare) =
            (Samples::default(), Samples::default(), Samples::default(), Samples::default(), Samples::default());
        for _ in 0..options.rounds {
            if stop::requested() {
                break;
            }
            let side = Side::new(&bench.target.address, &our_requests, bench.target.processes());
            let measured = round(&side, options.connections, options.threads, time)?;
            rate.push(measured.rate);
            us.push(measured.server_us);
            if let Some(nginx) = &nginx {
                let side = Side::new(&nginx.address, &their_requests, nginx.processes());
                let measured = round(&side, options.connections, options.threads, time)?;
                floor.push(measured.rate);
                floor_us.push(measured.server_us);
            }
            if method == "PUT" {
                bare.push(synced_writes(place, options.connections, time)?);
            }
        }
        let count = options.small_files;
        let row =
            Row::new(format!("{what} of {count} files of 4 KiB, {} connections", options.connections), "/s", &rate);
        let row = row.beside(NGINX, &rate, &floor).goal(HALF);
        rows.push(row.note_some(nginx.is_none().then(|| NO_NGINX.to_owned())));
        if method == "PUT" {
            rows.push(Row::new("the same", "/s", &rate).beside("write + sync + rename", &rate, &bare).goal(HALF));
        }
        if bench.target.supervisor.is_some() {
            rows.push(Row::new("of it: the server's CPU", "µs", &us).beside(NGINX, &us, &floor_us));
        }
    }
    Ok(rows)
}

/// Asks all of it once.
fn fill(bench: &Bench<'_>, address: &str, requests: &[Vec<u8>]) -> Result<(), Failure> {
    let mut connection = Connection::open(address, bench.target.key.as_deref())?;
    for request in requests {
        if stop::requested() {
            break;
        }
        connection.stream().write_all(request).map_err(|error| Failure::io("fill", &error))?;
        expect(&mut connection, "fill")?;
    }
    Ok(())
}

/// What a write costs that is on the disk when it returns: a file made, written, synced, renamed, its directory synced, on many threads at once.
fn synced_writes(place: &Place, threads: u64, time: Duration) -> Result<f64, Failure> {
    let failed = |error| Failure::io("write + sync + rename", &error);
    let (over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    let done: Result<(), Failure> = std::thread::scope(|scope| {
        let mut running = Vec::new();
        for thread in 0..threads {
            let (over, count) = (&over, &count);
            let home = place.at(&format!("bare-{thread}"));
            running.push(scope.spawn(move || -> std::io::Result<()> {
                std::fs::create_dir_all(&home)?;
                let directory = File::open(&home)?;
                let body = vec![b's'; SMALL_BYTES];
                for number in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let mut file = File::create(home.join("new"))?;
                    file.write_all(&body)?;
                    file.sync_all()?;
                    std::fs::rename(home.join("new"), home.join((number % DIRECTORY_FILES).to_string()))?;
                    directory.sync_all()?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        stop::pause(time);
        over.store(true, Ordering::Relaxed);
        for thread in running {
            thread.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into())).map_err(failed)?;
        }
        Ok(())
    });
    done?;
    Ok(count.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
}

fn archive(bench: &Bench<'_>, files: &str) -> Result<Vec<Row>, Failure> {
    let connection = &mut bench.target.connect()?;
    let count = bench.options.tar_files;
    let body = vec![b's'; SMALL_BYTES];
    let tar: Vec<u8> = (0..count).flat_map(|number| tar_entry(&number.to_string(), &body)).collect();
    let fields = format!("Content-Type: application/x-tar\r\nContent-Length: {}\r\n", tar.len());
    let (mut whole, mut single) = (Samples::default(), Samples::default());
    for turn in 0..bench.options.rounds {
        if stop::requested() {
            break;
        }
        let path = format!("{files}/archive?path=tar-{turn}");
        let begin = Instant::now();
        connection.stream().write_all(&request(bench, "PUT", &path, &fields)).map_err(|e| Failure::io("tar", &e))?;
        connection.stream().write_all(&tar).map_err(|e| Failure::io("tar", &e))?;
        expect(connection, "tar")?;
        whole.push(count as f64 / begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        for number in 0..count {
            let path = format!("{files}?path=single-{turn}/{number}");
            let head = request(bench, "PUT", &path, &format!("{BYTES}Content-Length: {SMALL_BYTES}\r\n"));
            connection.stream().write_all(&[head, body.clone()].concat()).map_err(|e| Failure::io("single", &e))?;
            expect(connection, "single")?;
        }
        single.push(count as f64 / begin.elapsed().as_secs_f64());
    }
    let row = Row::new(format!("{count} files by tar in one request"), "files/s", &whole);
    Ok(vec![row.beside("ours, one by one", &whole, &single).goal(Goal::RatioAtLeast(20.0))])
}

/// A file in a ustar archive.
fn tar_entry(name: &str, body: &[u8]) -> Vec<u8> {
    let mut head = vec![0; BLOCK];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..107].copy_from_slice(b"0000644");
    head[124..135].copy_from_slice(format!("{:011o}", body.len()).as_bytes());
    head[156] = b'0';
    head[257..265].copy_from_slice(b"ustar\x0000");
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head.extend_from_slice(body);
    head.resize(head.len().next_multiple_of(BLOCK), 0);
    head
}
