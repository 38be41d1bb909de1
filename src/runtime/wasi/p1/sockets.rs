//! Sockets, as far as 0.1 has them: accepting on a listener that the program was given.

use std::sync::Arc;

use wasmtime::{Caller, Linker};

use super::MODULE;
use super::call::{Failure, Get, Result, answer, call, with};
use super::data::{Vector, patiently, read, wait, would_block, write};
use super::descriptors::{FDFLAGS, NONBLOCK};
use super::errno::Code;
use super::table::{Interest, Object, Slot};
use crate::runtime::net::{self, Conn, Owner, PodNet, Shutdown, TcpListener};
use crate::runtime::spec::{PortSpec, Protocol};

/// Listens on the declared TCP ports of a program that cannot listen by itself: on all
/// addresses of the pod. To be called for modules that import `sock_accept`.
pub fn listen(
    net: &Arc<PodNet>,
    owner: &Owner,
    ports: &[PortSpec],
) -> std::result::Result<Vec<Arc<TcpListener>>, net::Error> {
    let tcp = ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    tcp.map(|port| Ok(Arc::new(net.preopen(port.port, owner)?)))
        .collect()
}

pub(super) fn add<T: Send + 'static>(linker: &mut Linker<T>, get: Get<T>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "sock_accept",
        move |mut caller: Caller<'_, T>, (fd, flags, out): (u32, u32, u32)| {
            Box::new(async move { answer(accept(&mut caller, get, fd, flags, out).await) })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "sock_recv",
        move |mut caller: Caller<'_, T>,
              (fd, buffers, count, flags, out, out_flags): (u32, u32, u32, u32, u32, u32)| {
            Box::new(async move {
                let vector = Vector {
                    buffers,
                    count,
                    out,
                };
                answer(receive(&mut caller, get, fd, vector, flags, out_flags).await)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "sock_send",
        move |mut caller: Caller<'_, T>,
              (fd, buffers, count, flags, out): (u32, u32, u32, u32, u32)| {
            Box::new(async move {
                let vector = Vector {
                    buffers,
                    count,
                    out,
                };
                answer(send(&mut caller, get, fd, vector, flags).await)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "sock_shutdown",
        move |mut caller: Caller<'_, T>, fd: u32, how: u32| {
            call(&mut caller, get, |p1, _| {
                let conn = connection(p1.table.get(fd)?)?;
                conn.shutdown(match how {
                    1 => Shutdown::Receive,
                    2 => Shutdown::Send,
                    3 => Shutdown::Both,
                    _ => return Err(Code::INVAL.into()),
                });
                Ok(())
            })
        },
    )?;
    Ok(())
}

/// `riflags`.
const PEEK: u32 = 1;
const WAIT_ALL: u32 = 2;

/// What a `sock_recv` wants that a read does not.
enum Receive {
    Peek,
    All,
}

async fn accept<T: 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    fd: u32,
    flags: u32,
    out: u32,
) -> Result<()> {
    if flags & !FDFLAGS != 0 {
        return Err(Code::INVAL.into());
    }
    patiently(caller, get, (fd, Interest::Read), |p1, guest| {
        // Checked first, so that no connection is taken and then lost.
        p1.table.check_room()?;
        guest.slice(out, 4)?;
        let Object::Listener(listener) = &p1.table.get(fd)?.object else {
            return Err(Code::NOTSOCK.into());
        };
        let conn = listener.try_accept()?;
        let accepted = p1.table.push(Slot {
            object: Object::Connection(Arc::new(conn)),
            nonblock: flags & NONBLOCK != 0,
        })?;
        guest.put_u32(out, accepted)
    })
    .await
}

async fn receive<T: Send + 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    fd: u32,
    vector: Vector,
    flags: u32,
    out_flags: u32,
) -> Result<()> {
    let how = match flags {
        0 => None,
        PEEK => Some(Receive::Peek),
        WAIT_ALL => Some(Receive::All),
        // What a peek would have to wait for may be more than the connection ever holds.
        flags if flags == PEEK | WAIT_ALL => return Err(Code::NOTSUP.into()),
        _ => return Err(Code::INVAL.into()),
    };
    with(caller, get, |p1, guest| {
        connection(p1.table.get(fd)?)?;
        guest.put(out_flags, &[0, 0])
    })?;
    match how {
        None => read(caller, get, fd, vector).await,
        Some(Receive::Peek) => peek(caller, get, fd, vector).await,
        Some(Receive::All) => receive_all(caller, get, fd, vector).await,
    }
}

/// Copies what a read would give, and leaves it there.
async fn peek<T: Send + 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    fd: u32,
    vector: Vector,
) -> Result<()> {
    patiently(caller, get, (fd, Interest::Read), |p1, guest| {
        let buffers = guest.buffers(vector.buffers, vector.count)?;
        let wanted = buffers.iter().map(|buffer| buffer.length as usize).sum();
        let bytes = connection(p1.table.get(fd)?)?.try_peek_vec(wanted)?;
        let mut rest = &*bytes;
        for buffer in &buffers {
            let (now, later) = rest.split_at(rest.len().min(buffer.length as usize));
            guest.put(buffer.pointer, now)?;
            rest = later;
        }
        guest.put_u32(vector.out, bytes.len() as u32)
    })
    .await
}

/// Waits until all buffers are full or nothing more comes. An error after the first byte comes again
/// at the next call, and who does not want to wait gets what is there.
async fn receive_all<T: Send + 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    fd: u32,
    vector: Vector,
) -> Result<()> {
    let buffers = with(caller, get, |_, guest| {
        guest.slice(vector.out, 4)?;
        guest.buffers(vector.buffers, vector.count)
    })?;
    let mut done = 0;
    for buffer in buffers {
        let mut filled = 0;
        while filled < buffer.length {
            let attempt = with(caller, get, |p1, guest| {
                let conn = connection(p1.table.get(fd)?)?;
                let target = guest.slice_mut(buffer.pointer + filled, buffer.length - filled)?;
                Ok(conn.try_read(target)? as u32)
            });
            match attempt {
                Ok(0) => return with(caller, get, |_, guest| guest.put_u32(vector.out, done)),
                Ok(count) => {
                    filled += count;
                    done += count;
                }
                attempt if would_block(&attempt) => {
                    match wait(caller, get, fd, Interest::Read).await {
                        Err(Failure::Code(_)) if done > 0 => {
                            return with(caller, get, |_, guest| guest.put_u32(vector.out, done));
                        }
                        waited => waited?,
                    }
                }
                Err(Failure::Code(_)) if done > 0 => {
                    return with(caller, get, |_, guest| guest.put_u32(vector.out, done));
                }
                Err(error) => return Err(error),
            }
        }
    }
    with(caller, get, |_, guest| guest.put_u32(vector.out, done))
}

async fn send<T: Send + 'static>(
    caller: &mut Caller<'_, T>,
    get: Get<T>,
    fd: u32,
    vector: Vector,
    flags: u32,
) -> Result<()> {
    if flags != 0 {
        return Err(Code::INVAL.into());
    }
    with(caller, get, |p1, _| {
        connection(p1.table.get(fd)?).map(|_| ())
    })?;
    write(caller, get, fd, vector).await
}

fn connection(slot: &Slot) -> Result<&Conn> {
    match &slot.object {
        Object::Connection(conn) => Ok(conn),
        Object::Input(_)
        | Object::Output(_)
        | Object::File(_)
        | Object::Directory(_)
        | Object::Listener(_) => Err(Code::NOTSOCK.into()),
    }
}
