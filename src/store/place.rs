//! The name of this log root among those who share the queue: `.state/place`.

use std::fs::File;
use std::io::{Read as _, Write as _};

use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::private::open_locked;

/// The name of this log root: made once, it outlives the name of the machine and its address.
pub fn name(layout: &Layout) -> Result<String, StoreError> {
    layout.create_state(&layout.state())?;
    let path = layout.state().join("place");
    let failed = |source| StoreError::new("update", &path, source);
    let (mut file, mut name) = open_locked(&path)?;
    if name.is_empty() {
        let mut random = [0; 16];
        File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut random))
            .map_err(failed)?;
        name = format!("{:032x}", u128::from_ne_bytes(random));
        file.write_all(name.as_bytes()).map_err(failed)?;
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::log_root;

    #[test]
    fn a_log_root_keeps_its_name_and_shares_it_with_no_other() {
        let [(_root, one), (_other, two)] = [log_root(), log_root()];
        let told = name(&one).unwrap();
        assert_eq!(name(&one).unwrap(), told);
        assert_ne!(name(&two).unwrap(), told);
    }
}
