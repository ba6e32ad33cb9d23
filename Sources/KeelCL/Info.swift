internal import COpenCL

/// The shape that all `clGet…Info` calls share: ask for the size, ask for the bytes, read them as a type.
struct Info {
  let call: StaticString
  let subject: String?
  /// (parameter, capacity, value, size) → status
  let read: (cl_uint, Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?) -> cl_int

  func bytes(_ parameter: Int32) throws(CLError) -> [UInt8] {
    let parameter = cl_uint(bitPattern: parameter)
    var size = 0
    try check(read(parameter, 0, nil, &size), call, subject)
    var bytes = [UInt8](repeating: 0, count: size)
    guard size > 0 else { return bytes }
    let status = bytes.withUnsafeMutableBytes { read(parameter, size, $0.baseAddress, nil) }
    try check(status, call, subject)
    return bytes
  }

  func value<T: BitwiseCopyable>(_ parameter: Int32, as type: T.Type) throws(CLError) -> T {
    let bytes = try bytes(parameter)
    guard bytes.count >= MemoryLayout<T>.size else {
      throw CLError(
        call: "\(call)", subject: subject, code: CL_INVALID_VALUE,
        detail: "expects \(MemoryLayout<T>.size) bytes for parameter \(parameter), got \(bytes.count)")
    }
    return bytes.withUnsafeBytes { $0.loadUnaligned(as: T.self) }
  }

  func array<T: BitwiseCopyable>(_ parameter: Int32, of type: T.Type) throws(CLError) -> [T] {
    let bytes = try bytes(parameter)
    let stride = MemoryLayout<T>.stride
    return bytes.withUnsafeBytes { raw in
      (0..<raw.count / stride).map { raw.loadUnaligned(fromByteOffset: $0 * stride, as: T.self) }
    }
  }

  /// Text without the terminating zero and the padding that some drivers add.
  func string(_ parameter: Int32) throws(CLError) -> String {
    let bytes = try bytes(parameter)
    let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    guard let first = text.firstIndex(where: { !$0.isWhitespace }),
      let last = text.lastIndex(where: { !$0.isWhitespace })
    else { return "" }
    return String(text[first...last])
  }
}
