/// A dense tensor in host memory: type and bytes, native byte order, row-major.
public struct HostTensor: Equatable, Sendable {
  public let type: TensorType
  /// `type.byteCount` bytes.
  public private(set) var bytes: [UInt8]

  public var shape: Shape { type.shape }
  public var dtype: DType { type.dtype }
  public var count: Int { type.count }

  /// Takes the bytes as they are. Throws when their number is not what the type asks for.
  public init(_ type: TensorType, bytes: [UInt8]) throws {
    guard bytes.count == type.byteCount else {
      throw TensorError("[tensor] \(type) expects \(type.byteCount) bytes, got \(bytes.count)")
    }
    self.type = type
    self.bytes = bytes
  }

  /// A tensor of zeros.
  public init(zeros type: TensorType) {
    self.type = type
    bytes = [UInt8](repeating: 0, count: type.byteCount)
  }

  /// A tensor of `type` whose elements are converted from doubles. Throws when the count does not fit.
  public init(_ type: TensorType, values: [Double]) throws {
    switch type.dtype {
    case .float32: try self.init(type, bytes: Self.bytes(of: values.map { Float($0) }))
    case .float64: try self.init(type, bytes: Self.bytes(of: values))
    case .int32: try self.init(type, bytes: Self.bytes(of: values.map { Int32(clampingToRange: $0) }))
    case .uint8: try self.init(type, bytes: values.map { UInt8(clamping: Int32(clampingToRange: $0)) })
    }
  }

  public init(_ shape: Shape, _ values: [Float]) throws {
    try self.init(TensorType(shape, .float32), bytes: Self.bytes(of: values))
  }
  public init(_ shape: Shape, _ values: [Double]) throws {
    try self.init(TensorType(shape, .float64), bytes: Self.bytes(of: values))
  }
  public init(_ shape: Shape, _ values: [Int32]) throws {
    try self.init(TensorType(shape, .int32), bytes: Self.bytes(of: values))
  }
  public init(_ shape: Shape, _ values: [UInt8]) throws {
    try self.init(TensorType(shape, .uint8), bytes: values)
  }

  /// The elements as floats, whatever the type.
  public var floats: [Float] { dtype == .float32 ? elements(Float.self) : doubles.map { Float($0) } }

  /// The elements as doubles, whatever the type; exact for every type Keel has.
  public var doubles: [Double] {
    switch dtype {
    case .float32: elements(Float.self).map { Double($0) }
    case .float64: elements(Double.self)
    case .int32: elements(Int32.self).map { Double($0) }
    case .uint8: bytes.map { Double($0) }
    }
  }

  /// The same values in another element type (integers saturate).
  public func converted(to dtype: DType) -> HostTensor {
    if dtype == self.dtype { return self }
    return (try? HostTensor(TensorType(shape, dtype), values: doubles)) ?? HostTensor(zeros: TensorType(shape, dtype))
  }

  /// The same elements under another shape. Throws when the counts differ.
  public func reshaped(to shape: Shape) throws -> HostTensor {
    try HostTensor(TensorType(shape, dtype), bytes: bytes)
  }

  /// The rows `range` of the first axis. Throws when the tensor has no such rows.
  public func rows(_ range: Range<Int>) throws -> HostTensor {
    guard shape.rank > 0, range.lowerBound >= 0, range.upperBound <= shape[0] else {
      throw TensorError("[tensor] rows \(range) expected inside \(type)")
    }
    let rowBytes = shape[0] == 0 ? 0 : bytes.count / shape[0]
    let slice = bytes[range.lowerBound * rowBytes..<range.upperBound * rowBytes]
    return try HostTensor(TensorType(Shape([range.count] + shape.dimensions.dropFirst()), dtype), bytes: Array(slice))
  }

  private func elements<Element: BitwiseCopyable>(_: Element.Type) -> [Element] {
    bytes.withUnsafeBytes { raw in
      (0..<raw.count / MemoryLayout<Element>.stride).map {
        raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Element>.stride, as: Element.self)
      }
    }
  }

  private static func bytes<Element: BitwiseCopyable>(of values: [Element]) -> [UInt8] {
    values.withUnsafeBytes { Array($0) }
  }
}

/// A tensor and what was asked of it do not fit.
public struct TensorError: Error, Equatable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

extension Int32 {
  /// The nearest representable integer; 0 for NaN.
  init(clampingToRange value: Double) {
    if value.isNaN { self = 0 } else { self = Int32(Swift.min(Swift.max(value, -2_147_483_648), 2_147_483_647)) }
  }
}
