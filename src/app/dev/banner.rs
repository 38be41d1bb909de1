//! What `dev` says: the addresses first, then what happens. Colours only on a terminal.

use std::path::Path;

use anstream::println;
use anstyle::{AnsiColor, Style};

use super::child::Report;
use super::layout::Ports;

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const DIM: Style = Style::new().dimmed();

pub fn title(directory: &Path, ports: &Ports) {
    println!(
        "{BOLD}wasmorch {}{BOLD:#} · dev cluster in {} {DIM}(kept between runs; --fresh starts empty){DIM:#}\n",
        env!("CARGO_PKG_VERSION"),
        directory.display()
    );
    for (wanted, used) in &ports.moved {
        println!("  {DIM}port {wanted} is taken; using {used}{DIM:#}");
    }
}

pub fn done(what: &str, detail: &str) {
    println!("  {GOOD}✓{GOOD:#} {what:<15} {detail}");
}

pub fn addresses(ports: &Ports, token: &str, kubeconfig: &Path, demo: bool) {
    println!(
        "\n  Dashboard         http://{}/ui/#token={token}",
        ports.http
    );
    println!(
        "  kubectl           export KUBECONFIG={}",
        kubeconfig.display()
    );
    if demo {
        println!("  Try               curl http://{}/catalog", ports.ingress);
        println!(
            "                    curl http://gateway.default.localhost:{}/catalog",
            ports.ingress.port()
        );
    } else {
        println!("  Try               wasmorch run hello hello.wasm");
    }
    println!("\n  {DIM}Ctrl-C stops everything{DIM:#}\n");
}

pub fn report(report: &Report) {
    match report {
        // The banner has told the first start.
        Report::Started { again: false, .. } => {}
        Report::Started {
            name,
            pid,
            again: true,
        } => println!("  {GOOD}↻{GOOD:#} {name} is back (pid {pid})"),
        Report::Exited {
            name,
            how,
            restart_in,
        } => {
            println!(
                "  {BAD}✖{BAD:#} {name} died ({how}); restarting in {:.1} s",
                restart_in.as_secs_f64()
            );
        }
        Report::Failed { name, why } => println!("  {BAD}✖{BAD:#} {name} cannot be started: {why}"),
    }
}

pub fn stopping(children: usize) {
    println!("\n  stopping {children} processes …");
}

pub fn killed(name: &str) {
    println!("  {BAD}✖{BAD:#} {name} did not end in time and was killed");
}

pub fn stopped(directory: &Path) {
    println!("  data kept in {} · bye", directory.display());
}
