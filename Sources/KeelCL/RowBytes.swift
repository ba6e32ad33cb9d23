extension MutableRawSpan {
  /// Copies rows of `rowBytes` bytes out of `source`, one after the other, in the order of `rows`.
  ///
  /// - Returns: false where a row lies outside `source` or there is no room for all; then nothing is certain of what was
  ///   copied.
  public mutating func copyRows(_ rows: ArraySlice<Int32>, of source: [UInt8], rowBytes: Int) -> Bool {
    guard rowBytes > 0, rows.count <= byteCount / rowBytes else { return false }
    let count = source.count / rowBytes
    return withUnsafeMutableBytes { to in
      source.withUnsafeBytes { from in
        rows.withUnsafeBufferPointer { rows in
          guard let to = to.baseAddress, let from = from.baseAddress else { return rows.isEmpty }
          // Rows lie anywhere; a processor that runs ahead has several of them on the way, as no copy waits for another.
          for (position, row) in rows.enumerated() {
            guard row >= 0, row < count else { return false }
            (to + position * rowBytes).copyMemory(from: from + Int(row) * rowBytes, byteCount: rowBytes)
          }
          return true
        }
      }
    }
  }

  /// The position of the first of the 32-bit integers here that is not in `range`; nil when all are.
  public func firstInt32(outside range: Range<Int32>) -> (position: Int, value: Int32)? {
    withUnsafeBytes { bytes in
      for position in 0..<bytes.count / 4 {
        let value = bytes.loadUnaligned(fromByteOffset: 4 * position, as: Int32.self)
        if !range.contains(value) { return (position, value) }
      }
      return nil
    }
  }
}
