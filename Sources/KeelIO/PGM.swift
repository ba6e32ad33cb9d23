import KeelCore

/// Grey images of the Netpbm family, 8 bits a pixel: binary (`P5`) and text (`P2`). One image a file.
///
/// Source: the Netpbm manual page pgm(5).
public enum PGM {
  /// An image as it is stored.
  public struct Image: Equatable, Sendable {
    /// `u8[height, width]`, 0 (black) to `maximum` (white).
    public let pixels: HostTensor
    /// The value that stands for white, 1…255.
    public let maximum: Int

    /// `f32[height, width]`, 0 (black) to 1 (white).
    public var normalized: HostTensor {
      get throws { try HostTensor(pixels.shape, pixels.bytes.map { Float($0) / Float(maximum) }) }
    }
  }

  /// The most pixels that are read.
  public static let pixelLimit = 1 << 28

  /// Reads one image. Throws `FormatError` naming the file and what is wrong with it.
  public static func read(_ path: String) throws -> Image {
    try decode(try FileBytes.read(path, format: "pgm", limit: 4 * pixelLimit), name: path)
  }

  /// Decodes the bytes of a file; `name` stands in the errors.
  public static func decode(_ bytes: [UInt8], name: String) throws -> Image {
    guard bytes.starts(with: Array("P5".utf8)) || bytes.starts(with: Array("P2".utf8)) else {
      throw FormatError("pgm", name, "expected P5 or P2 at the start")
    }
    let isBinary = bytes[1] == UInt8(ascii: "5")
    var scanner = Scanner(bytes: bytes, name: name, position: 2)
    let width = try scanner.number("width")
    let height = try scanner.number("height")
    let maximum = try scanner.number("maximum")
    guard width > 0, height > 0 else {
      throw FormatError("pgm", name, "size \(width)×\(height), expected at least 1×1")
    }
    let (count, overflow) = width.multipliedReportingOverflow(by: height)
    guard !overflow, count <= pixelLimit else {
      throw FormatError("pgm", name, "size \(width)×\(height) exceeds the limit of \(pixelLimit) pixels")
    }
    guard (1...255).contains(maximum) else {
      throw FormatError("pgm", name, "maximum \(maximum), expected 1…255 (8 bits a pixel)")
    }
    let pixels = isBinary ? try scanner.raster(count) : try scanner.text(count)
    if let index = pixels.firstIndex(where: { Int($0) > maximum }) {
      throw FormatError("pgm", name, "pixel \(index) is \(pixels[index]), expected 0…\(maximum)")
    }
    return Image(pixels: try HostTensor(TensorType([height, width], .uint8), bytes: pixels), maximum: maximum)
  }

  /// The bytes of a binary file of `u8[height, width]`.
  public static func encode(_ pixels: HostTensor, maximum: Int = 255) throws -> [UInt8] {
    guard pixels.dtype == .uint8, pixels.shape.rank == 2, (1...255).contains(maximum) else {
      throw FormatError("pgm", "encode", "expected u8[height, width] and 1…255, got \(pixels.type) and \(maximum)")
    }
    return Array("P5\n\(pixels.shape[1]) \(pixels.shape[0])\n\(maximum)\n".utf8) + pixels.bytes
  }
}

private struct Scanner {
  let bytes: [UInt8]
  let name: String
  var position: Int

  private static let whitespace: Set<UInt8> = [9, 10, 11, 12, 13, 32]

  /// The next decimal number, after white space and comments (`#` to the end of the line).
  mutating func number(_ what: String) throws -> Int {
    var isComment = false
    while position < bytes.count {
      let byte = bytes[position]
      if byte == UInt8(ascii: "#") {
        isComment = true
      } else if isComment {
        isComment = byte != 10 && byte != 13
      } else if !Self.whitespace.contains(byte) {
        break
      }
      position += 1
    }
    guard position < bytes.count else { throw FormatError("pgm", name, "truncated: ends where \(what) is expected") }
    let start = position
    var value = 0
    while position < bytes.count, (48...57).contains(bytes[position]) {
      // Ten digits are more than any valid field has; the clamp keeps the product in range.
      value = min(value * 10 + Int(bytes[position] - 48), 9_999_999_999)
      position += 1
    }
    guard position > start,
      position == bytes.count || Self.whitespace.contains(bytes[position]) || bytes[position] == 35
    else { throw FormatError("pgm", name, "\(what) at byte \(start) is not a number") }
    return value
  }

  /// `count` bytes after exactly one white space.
  mutating func raster(_ count: Int) throws -> [UInt8] {
    let available = max(bytes.count - position - 1, 0)
    guard available >= count else {
      throw FormatError("pgm", name, "truncated: expected \(count) bytes of pixels, got \(available)")
    }
    let start = position + 1
    position = start + count
    try expectEnd(from: position)
    return Array(bytes[start..<position])
  }

  /// `count` numbers in text.
  mutating func text(_ count: Int) throws -> [UInt8] {
    guard bytes.count - position >= count else {
      throw FormatError("pgm", name, "truncated: \(bytes.count - position) bytes cannot hold \(count) numbers")
    }
    let pixels = try (0..<count).map { index in
      let value = try number("pixel \(index)")
      guard let pixel = UInt8(exactly: value) else {
        throw FormatError("pgm", name, "pixel \(index) is \(value), expected 0…255")
      }
      return pixel
    }
    try expectEnd(from: position)
    return pixels
  }

  private func expectEnd(from end: Int) throws {
    let rest = bytes[end...].filter { !Self.whitespace.contains($0) }.count
    guard rest == 0 else { throw FormatError("pgm", name, "\(rest) bytes after the image, expected one image a file") }
  }
}
