import Foundation
import KeelCore

/// Named tensors and a string map in one file: 8 bytes of header length (little-endian), a JSON header, the bytes of
/// the tensors without gaps. `F32 F64 F16 BF16 I32 U8`.
///
/// Source: the format section of the safetensors project's README; its rules (no overlap, no holes, header at most
/// 100 MB) are checked on reading.
public struct Safetensors: Equatable, Sendable {
  public var tensors: [String: HostTensor]
  /// Free text, `__metadata__` in the file.
  public var metadata: [String: String]

  private static let headerLimit = 100_000_000
  fileprivate static let metadataKey = "__metadata__"

  public init(tensors: [String: HostTensor] = [:], metadata: [String: String] = [:]) {
    self.tensors = tensors
    self.metadata = metadata
  }

  /// Reads a file. Throws `FormatError` naming the file, the tensor and what is wrong with it.
  public init(reading path: String) throws {
    try self.init(decoding: try FileBytes.readStored(path, format: "safetensors"), name: path)
  }

  /// Decodes the bytes of a file; `name` stands in the errors.
  public init(decoding bytes: [UInt8], name: String) throws {
    guard bytes.count >= 8 else {
      throw FormatError("safetensors", name, "truncated: \(bytes.count) bytes, expected at least 8")
    }
    let length = bytes[0..<8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard length <= UInt64(min(Self.headerLimit, bytes.count - 8)) else {
      throw FormatError(
        "safetensors", name,
        "header of \(length) bytes, expected at most \(min(Self.headerLimit, bytes.count - 8)) "
          + "in a file of \(bytes.count)")
    }
    let headerEnd = 8 + Int(length)
    guard length > 0, bytes[8] == UInt8(ascii: "{") else {
      throw FormatError("safetensors", name, "expected a header that begins with {")
    }
    let header: Header
    do {
      header = try JSONDecoder().decode(Header.self, from: Data(bytes[8..<headerEnd]))
    } catch {
      throw FormatError("safetensors", name, "header: \(Self.describe(error))")
    }
    metadata = header.metadata
    tensors = [:]
    try Self.checkLayout(header.entries, dataCount: bytes.count - headerEnd, name: name)
    for (key, entry) in header.entries {
      let data = bytes[(headerEnd + entry.begin)..<(headerEnd + entry.end)]
      tensors[key] = try HostTensor(try entry.type(key, name: name), bytes: Array(data))
    }
  }

  /// The bytes of the file. The same tensors give the same bytes: wide types first, so that every tensor lies on a
  /// multiple of its element size, then by name.
  public func encoded() throws -> [UInt8] {
    guard tensors[Self.metadataKey] == nil else {
      throw FormatError("safetensors", "encode", "\(Self.metadataKey) is no name for a tensor")
    }
    let ordered = tensors.sorted { ($1.value.dtype.byteCount, $0.key) < ($0.value.dtype.byteCount, $1.key) }
    var header = Header()
    header.metadata = metadata
    var offset = 0
    for (key, tensor) in ordered {
      let end = offset + tensor.bytes.count
      header.entries[key] = Entry(
        dtype: Entry.names[tensor.dtype] ?? "", shape: tensor.shape.dimensions, dataOffsets: [offset, end])
      offset = end
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var json = [UInt8](try encoder.encode(header))
    // Spaces after the JSON put the data on a multiple of 8.
    json += [UInt8](repeating: 32, count: (8 - json.count % 8) % 8)
    var bytes = withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) }
    bytes.reserveCapacity(8 + json.count + offset)
    bytes += json
    for (_, tensor) in ordered { bytes += tensor.bytes }
    return bytes
  }

  /// Writes the file in one step: see ``AtomicFile``.
  public func write(to path: String) throws {
    try AtomicFile.write(try encoded(), to: path)
  }

  /// Checks each entry by itself, then that together they cover the data once.
  private static func checkLayout(_ entries: [String: Entry], dataCount: Int, name: String) throws {
    for (key, entry) in entries.sorted(by: { $0.key < $1.key }) {
      let type = try entry.type(key, name: name)
      guard entry.dataOffsets.count == 2, entry.begin >= 0, entry.begin <= entry.end, entry.end <= dataCount else {
        throw FormatError(
          "safetensors", name, "\(key): offsets \(entry.dataOffsets), expected two in 0…\(dataCount), in order")
      }
      guard entry.end - entry.begin == type.byteCount else {
        throw FormatError(
          "safetensors", name, "\(key): \(type) expects \(type.byteCount) bytes, got \(entry.end - entry.begin)")
      }
    }
    var end = 0
    for (key, entry) in entries.sorted(by: { ($0.value.begin, $0.value.end) < ($1.value.begin, $1.value.end) }) {
      guard entry.begin >= end else {
        throw FormatError("safetensors", name, "\(key): begins at \(entry.begin), inside a tensor that ends at \(end)")
      }
      guard entry.begin == end else {
        throw FormatError("safetensors", name, "\(entry.begin - end) bytes before \(key) belong to no tensor")
      }
      end = entry.end
    }
    guard end == dataCount else {
      throw FormatError("safetensors", name, "\(dataCount - end) bytes at the end belong to no tensor")
    }
  }

  private static func describe(_ error: any Error) -> String {
    switch error as? DecodingError {
    case .dataCorrupted(let context), .keyNotFound(_, let context), .typeMismatch(_, let context),
      .valueNotFound(_, let context):
      let path = context.codingPath.map(\.stringValue).joined(separator: ".")
      return path.isEmpty ? context.debugDescription : "\(path): \(context.debugDescription)"
    default: return String(describing: error)
    }
  }
}

/// One tensor's line of the header.
private struct Entry: Codable {
  var dtype: String
  var shape: [Int]
  var dataOffsets: [Int]

  enum CodingKeys: String, CodingKey {
    case dtype
    case shape
    case dataOffsets = "data_offsets"
  }

  static let names: [DType: String] = [
    .float32: "F32", .float64: "F64", .float16: "F16", .bfloat16: "BF16", .int32: "I32", .uint8: "U8",
  ]

  /// Meaningful once there are two offsets.
  var begin: Int { dataOffsets.first ?? 0 }
  var end: Int { dataOffsets.last ?? 0 }

  /// The tensor's type; throws when the element type is unknown or the extents are no shape.
  func type(_ key: String, name: String) throws -> TensorType {
    guard let dtype = Self.names.first(where: { $0.value == dtype })?.key else {
      let known = Self.names.values.sorted().joined(separator: " ")
      throw FormatError("safetensors", name, "\(key): element type \(self.dtype), expected one of \(known)")
    }
    var bytes = dtype.byteCount
    for extent in shape {
      let (product, overflow) = bytes.multipliedReportingOverflow(by: extent)
      guard extent >= 0, !overflow else { throw FormatError("safetensors", name, "\(key): shape \(shape) is absurd") }
      bytes = product
    }
    return TensorType(Shape(shape), dtype)
  }
}

private struct Header: Codable {
  var metadata: [String: String] = [:]
  var entries: [String: Entry] = [:]

  struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(_ name: String) { stringValue = name }
    init?(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  init() {}

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    for key in container.allKeys {
      if key.stringValue == Safetensors.metadataKey {
        metadata = try container.decode([String: String].self, forKey: key)
      } else {
        entries[key.stringValue] = try container.decode(Entry.self, forKey: key)
      }
    }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    if !metadata.isEmpty { try container.encode(metadata, forKey: Key(Safetensors.metadataKey)) }
    for (name, entry) in entries { try container.encode(entry, forKey: Key(name)) }
  }
}
