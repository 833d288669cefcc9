//! Forms with a file, as strictly as Proxmox reads them: `content`, `checksum-algorithm`, `checksum`, and last the file,
//! whose part begins with its disposition.
//!
//! **Source**: pve-http-server, `PVE/APIServer/AnyEvent.pm`, `file_upload_multipart`.

type Form = (Vec<(String, String)>, (String, Vec<u8>));

/// Takes a form apart.
pub fn parse(body: &[u8], boundary: &str) -> Result<Form, String> {
    let delimiter = format!("--{boundary}\r\n").into_bytes();
    let mut rest = body.strip_prefix(&delimiter[..]).ok_or("upload failed")?;
    let mut fields = Vec::new();
    for name in ["content", "checksum-algorithm", "checksum"] {
        let head = format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\n").into_bytes();
        let Some(inner) = rest.strip_prefix(&head[..]) else { continue };
        let end = find(inner, &delimiter).ok_or("upload failed")?;
        let value = String::from_utf8_lossy(&inner[..end]).trim().to_owned();
        fields.push((name.to_owned(), value));
        rest = &inner[end + delimiter.len()..];
    }
    let start = b"Content-Disposition: form-data; name=\"filename\"; filename=\"";
    let inner =
        rest.strip_prefix(&start[..]).ok_or("wrong field name for file upload, expected 'filename'")?;
    let end = find(inner, b"\"").ok_or("upload failed")?;
    let name = String::from_utf8_lossy(&inner[..end]).into_owned();
    let data = find(inner, b"\r\n\r\n").ok_or("upload failed")? + 4;
    let close = format!("\r\n--{boundary}--").into_bytes();
    let end = find(&inner[data..], &close).ok_or("upload failed")?;
    Ok((fields, (name, inner[data..data + end].to_vec())))
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
