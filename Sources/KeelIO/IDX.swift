import KeelCore

/// The file format of MNIST and its kin: big-endian header (two zero bytes, element type, rank, extents), then the
/// elements row-major. Unsigned bytes only. Files may be gzip; their content tells.
///
/// Source: the format's description on the MNIST page of LeCun, Cortes and Burges.
public enum IDX {
  /// The most bytes that the elements of one file may take.
  public static let defaultLimit = 1 << 31

  private static let maximumRank = 8
  private static let typeNames: [UInt8: String] = [
    0x08: "unsigned byte", 0x09: "signed byte", 0x0b: "short", 0x0c: "int", 0x0d: "float", 0x0e: "double",
  ]

  /// Reads unsigned bytes of any rank.
  ///
  /// - Parameter rank: the rank that the file must have; nil takes any.
  /// - Returns: `u8` with the file's extents.
  /// - Throws: `FormatError` naming the file and what is wrong with it.
  public static func read(_ path: String, rank: Int? = nil, limit: Int = defaultLimit) throws -> HostTensor {
    let bytes = try FileBytes.read(path, format: "idx", limit: limit)
    return try decode(bytes, name: path, rank: rank, limit: limit)
  }

  /// Reads images: `u8[n, height, width]`.
  public static func readImages(_ path: String) throws -> HostTensor { try read(path, rank: 3) }

  /// Reads labels and checks that each lies in 0..<classCount: `i32[n]`.
  public static func readLabels(_ path: String, classCount: Int = 10) throws -> HostTensor {
    let labels = try read(path, rank: 1)
    if let index = labels.bytes.firstIndex(where: { Int($0) >= classCount }) {
      throw FormatError("idx", path, "label \(labels.bytes[index]) at index \(index), expected 0…\(classCount - 1)")
    }
    return labels.converted(to: .int32)
  }

  /// Reads images and their labels, and checks that there are as many of the one as of the other.
  public static func readPair(images: String, labels: String, classCount: Int = 10) throws
    -> (images: HostTensor, labels: HostTensor)
  {
    let imageTensor = try readImages(images)
    let labelTensor = try readLabels(labels, classCount: classCount)
    guard imageTensor.shape[0] == labelTensor.count else {
      throw FormatError(
        "idx", labels, "\(labelTensor.count) labels for the \(imageTensor.shape[0]) images of \(images)")
    }
    return (imageTensor, labelTensor)
  }

  /// Decodes the bytes of an unpacked file; `name` stands in the errors. See ``read(_:rank:limit:)``.
  public static func decode(_ bytes: [UInt8], name: String, rank: Int? = nil, limit: Int = defaultLimit) throws
    -> HostTensor
  {
    let shape = try decodeHeader(bytes, name: name, rank: rank)
    let header = 4 + 4 * shape.count
    var count = 1
    for extent in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard !overflow, product <= limit else {
        throw FormatError("idx", name, "dimensions \(Shape(shape)) exceed the limit of \(limit) elements")
      }
      count = product
    }
    guard bytes.count >= header + count else {
      throw FormatError(
        "idx", name, "truncated: \(Shape(shape)) asks for \(header + count) bytes, the file has \(bytes.count)")
    }
    guard bytes.count == header + count else {
      throw FormatError(
        "idx", name,
        "\(bytes.count - header - count) bytes too many: \(Shape(shape)) asks for \(header + count), "
          + "the file has \(bytes.count)")
    }
    return try HostTensor(TensorType(Shape(shape), .uint8), bytes: Array(bytes[header...]))
  }

  private static func decodeHeader(_ bytes: [UInt8], name: String, rank: Int?) throws -> [Int] {
    guard bytes.count >= 4 else {
      throw FormatError("idx", name, "truncated: \(bytes.count) bytes, expected a header of at least 4")
    }
    let expected = "00 00 08 " + (rank.map { hex(UInt8(clamping: $0)) } ?? "rank")
    let found = bytes[0..<4].map(hex).joined(separator: " ")
    guard bytes[0] == 0, bytes[1] == 0, let typeName = typeNames[bytes[2]] else {
      throw FormatError("idx", name, "wrong magic: expected \(expected), got \(found)")
    }
    guard bytes[2] == 0x08 else {
      throw FormatError("idx", name, "wrong magic: elements of type \(typeName) (\(found)), expected unsigned byte")
    }
    let fileRank = Int(bytes[3])
    guard rank == nil || rank == fileRank else {
      throw FormatError("idx", name, "wrong magic: expected \(expected), got \(found), which is rank \(fileRank)")
    }
    guard (1...maximumRank).contains(fileRank) else {
      throw FormatError("idx", name, "rank \(fileRank), expected 1…\(maximumRank)")
    }
    guard bytes.count >= 4 + 4 * fileRank else {
      throw FormatError(
        "idx", name, "truncated: \(bytes.count) bytes, expected a header of \(4 + 4 * fileRank) for rank \(fileRank)")
    }
    return try (0..<fileRank).map { axis in
      let extent = bytes[(4 + 4 * axis)..<(8 + 4 * axis)].reduce(0) { $0 << 8 | Int($1) }
      guard extent > 0 else { throw FormatError("idx", name, "extent 0 on axis \(axis), expected at least 1") }
      return extent
    }
  }

  /// The bytes of an unpacked file that holds `tensor`. Throws unless it is `u8` of rank 1…8 with 32-bit extents.
  public static func encode(_ tensor: HostTensor) throws -> [UInt8] {
    guard tensor.dtype == .uint8, (1...maximumRank).contains(tensor.shape.rank) else {
      throw FormatError("idx", "encode", "expected u8 of rank 1…\(maximumRank), got \(tensor.type)")
    }
    var bytes: [UInt8] = [0, 0, 0x08, UInt8(tensor.shape.rank)]
    for extent in tensor.shape.dimensions {
      guard let extent = UInt32(exactly: extent) else {
        throw FormatError("idx", "encode", "extents below 2^32 expected, got \(tensor.type)")
      }
      withUnsafeBytes(of: extent.bigEndian) { bytes += $0 }
    }
    return bytes + tensor.bytes
  }

  private static func hex(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }
}
