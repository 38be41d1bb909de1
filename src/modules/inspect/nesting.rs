//! How deep types are nested, found without recursion.
//!
//! wasmparser reads a type inside a type by calling itself, and three bytes make a level: a file of a
//! few hundred kilobytes ends the thread's stack, and with it the server. So every section of types
//! is walked here first, in the order in which the validator will read it.

use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentImport, ComponentType, InstanceTypeDeclaration,
};

use super::MAX_NESTING;

/// The first byte of a component's type, and of an instance's.
const COMPONENT: u8 = 0x41;
const INSTANCE: u8 = 0x42;
/// The first byte of a declaration inside them: a type, an import.
const TYPE: u8 = 0x01;
const IMPORT: u8 = 0x03;

/// Whether some type in a section of component types, whose contents are `section`, is nested deeper
/// than may be.
pub(super) fn is_too_deep(section: &[u8], offset: usize) -> Result<bool, BinaryReaderError> {
    let mut reader = BinaryReader::new(section, offset);
    let mut types = reader.read_var_u32()?;
    while types > 0 {
        types -= 1;
        if is_type_too_deep(&mut reader)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_type_too_deep(reader: &mut BinaryReader<'_>) -> Result<bool, BinaryReaderError> {
    // How many declarations are left in each type that is being read.
    let mut open = Vec::new();
    open.extend(begin(reader)?);
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        match peek(reader)? {
            TYPE => {
                reader.read_u8()?;
                open.extend(begin(reader)?);
            }
            IMPORT => {
                reader.read_u8()?;
                reader.read::<ComponentImport<'_>>()?;
            }
            _flat => drop(reader.read::<InstanceTypeDeclaration<'_>>()?),
        }
        if open.len() > MAX_NESTING {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads a type: the whole of it if nothing can be inside, else its head, with the number of its
/// declarations.
fn begin(reader: &mut BinaryReader<'_>) -> Result<Option<u32>, BinaryReaderError> {
    match peek(reader)? {
        COMPONENT | INSTANCE => {
            reader.read_u8()?;
            Ok(Some(reader.read_var_u32()?))
        }
        _flat => {
            reader.read::<ComponentType<'_>>()?;
            Ok(None)
        }
    }
}

fn peek(reader: &BinaryReader<'_>) -> Result<u8, BinaryReaderError> {
    reader.clone().read_u8()
}
