import CZlib

/// Gzip (RFC 1952) in memory, through zlib.
public enum Gzip {
  /// The most bytes that are unpacked unless the caller says otherwise: 2 GiB.
  public static let defaultLimit = 1 << 31

  private static let chunk = 1 << 18

  /// Whether the bytes begin as a gzip file does.
  public static func isGzip(_ bytes: [UInt8]) -> Bool {
    bytes.count >= 3 && bytes[0] == 0x1f && bytes[1] == 0x8b && bytes[2] == 8
  }

  /// Unpacks every member of a gzip file; zero padding after the last one is allowed, other bytes are not.
  ///
  /// - Parameters:
  ///   - name: the file, for errors.
  ///   - limit: the most bytes that the result may have; unpacking stops there.
  /// - Throws: `FormatError` when the file is truncated, corrupt, too large or followed by something else.
  public static func decompress(_ bytes: [UInt8], name: String, limit: Int = defaultLimit) throws -> [UInt8] {
    guard isGzip(bytes) else { throw FormatError("gzip", name, "expected the bytes 1f 8b 08 at the start") }
    var output: [UInt8] = []
    var position = 0
    while position < bytes.count {
      position = try inflateMember(bytes, from: position, into: &output, name: name, limit: limit)
      let rest = bytes[position...]
      if rest.allSatisfy({ $0 == 0 }) { break }
      guard rest.starts(with: [0x1f, 0x8b, 8]) else {
        throw FormatError("gzip", name, "\(rest.count) bytes after the end of the compressed data")
      }
    }
    return output
  }

  /// Packs bytes into one gzip member.
  ///
  /// - Parameter level: 0 (store) to 9 (smallest).
  public static func compress(_ bytes: [UInt8], level: Int = 6) throws -> [UInt8] {
    var stream = z_stream()
    return try withUnsafeMutablePointer(to: &stream) { stream in
      let size = Int32(MemoryLayout<z_stream>.size)
      // Window bits above 15 ask zlib for the gzip wrapper.
      let level = Int32(min(max(level, 0), 9))
      guard deflateInit2_(stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, size) == Z_OK else {
        throw FormatError("gzip", "compress", "zlib could not be started")
      }
      defer { deflateEnd(stream) }
      var output: [UInt8] = []
      var position = 0
      var status = Z_OK
      while status != Z_STREAM_END {
        let isLast = bytes.count - position <= chunk
        let step = advance(stream, bytes, from: position, into: &output) { deflate($0, isLast ? Z_FINISH : Z_NO_FLUSH) }
        position += step.consumed
        status = step.status
        guard status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR else {
          throw FormatError("gzip", "compress", "zlib status \(status)")
        }
      }
      return output
    }
  }

  /// Unpacks the member at `start`; returns the position after it.
  private static func inflateMember(
    _ bytes: [UInt8], from start: Int, into output: inout [UInt8], name: String, limit: Int
  ) throws -> Int {
    // zlib remembers the address of its stream, so the stream must not move: all work is inside this closure.
    var stream = z_stream()
    return try withUnsafeMutablePointer(to: &stream) { stream in
      guard inflateInit2_(stream, 15 + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
        throw FormatError("gzip", name, "zlib could not be started")
      }
      defer { inflateEnd(stream) }
      var position = start
      while true {
        let before = output.count
        let step = advance(stream, bytes, from: position, into: &output) { inflate($0, Z_NO_FLUSH) }
        position += step.consumed
        guard output.count <= limit else {
          throw FormatError("gzip", name, "unpacks to more than the limit of \(limit) bytes")
        }
        switch step.status {
        case Z_STREAM_END: return position
        case Z_OK where step.consumed > 0 || output.count > before: continue
        case Z_OK, Z_BUF_ERROR:
          throw FormatError("gzip", name, "truncated: ends after \(bytes.count) bytes, inside the compressed data")
        default:
          let detail = stream.pointee.msg.map { String(cString: $0) } ?? "zlib status \(step.status)"
          throw FormatError("gzip", name, "corrupt at byte \(position): \(detail)")
        }
      }
    }
  }

  /// One call of zlib with at most `chunk` bytes in and out.
  private static func advance(
    _ stream: UnsafeMutablePointer<z_stream>, _ bytes: [UInt8], from position: Int, into output: inout [UInt8],
    _ body: (UnsafeMutablePointer<z_stream>) -> Int32
  ) -> (consumed: Int, status: Int32) {
    let available = min(bytes.count - position, chunk)
    var status = Z_OK
    var consumed = 0
    let produced = [UInt8](unsafeUninitializedCapacity: chunk) { buffer, initialized in
      bytes.withUnsafeBufferPointer { input in
        // zlib declares its input mutable and does not write to it.
        stream.pointee.next_in = UnsafeMutablePointer(mutating: input.baseAddress?.advanced(by: position))
        stream.pointee.avail_in = UInt32(available)
        stream.pointee.next_out = buffer.baseAddress
        stream.pointee.avail_out = UInt32(chunk)
        status = body(stream)
        consumed = available - Int(stream.pointee.avail_in)
        initialized = chunk - Int(stream.pointee.avail_out)
      }
    }
    output += produced
    return (consumed, status)
  }
}
