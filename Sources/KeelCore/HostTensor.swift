/// A dense tensor in host memory: type and bytes, native byte order, row-major.
public struct HostTensor: Equatable, Sendable {
  /// Shape and element type.
  public let type: TensorType
  /// `type.byteCount` bytes.
  public private(set) var bytes: [UInt8]

  /// The extents, outermost first.
  public var shape: Shape { type.shape }
  /// The type of an element.
  public var dtype: DType { type.dtype }
  /// Number of elements.
  public var count: Int { type.count }

  /// Takes the bytes as they are. Throws `TensorError` when their number is not what the type asks for, or when an extent
  /// is negative.
  public init(_ type: TensorType, bytes: [UInt8]) throws {
    guard type.shape.isPossible else {
      throw TensorError("[tensor] expects extents of 0 or more, got \(type)")
    }
    guard bytes.count == type.byteCount else {
      throw TensorError("[tensor] \(type) expects \(type.byteCount) bytes, got \(bytes.count)")
    }
    self.type = type
    self.bytes = bytes
  }

  /// A tensor of zeros. A type that no tensor can have (a negative extent, or more bytes than an `Int` counts) gives an
  /// empty one of shape `[0]`, which whoever expects that type refuses.
  public init(zeros type: TensorType) {
    let isPossible = type.shape.isPossible && type.byteCount < Int.max
    self.type = isPossible ? type : TensorType([0], type.dtype)
    bytes = [UInt8](repeating: 0, count: self.type.byteCount)
  }

  /// A tensor of `type` whose elements are converted from doubles: floating-point types round to nearest, ties to even;
  /// integers saturate, and NaN becomes 0 in them. Throws `TensorError` when the count does not fit.
  public init(_ type: TensorType, values: [Double]) throws {
    try self.init(type, bytes: Self.bytes(of: values, as: type.dtype))
  }

  /// For bytes that are known to fit.
  private init(fitting type: TensorType, bytes: [UInt8]) {
    self.type = type
    self.bytes = bytes
  }

  /// A single-precision tensor of `shape`. Throws `TensorError` when the count does not fit.
  public init(_ shape: Shape, _ values: [Float]) throws {
    try self.init(TensorType(shape, .float32), bytes: Self.bytes(of: values))
  }
  /// A double-precision tensor of `shape`. Throws `TensorError` when the count does not fit.
  public init(_ shape: Shape, _ values: [Double]) throws {
    try self.init(TensorType(shape, .float64), bytes: Self.bytes(of: values))
  }
  /// An integer tensor of `shape`. Throws `TensorError` when the count does not fit.
  public init(_ shape: Shape, _ values: [Int32]) throws {
    try self.init(TensorType(shape, .int32), bytes: Self.bytes(of: values))
  }
  /// A tensor of bytes of `shape`. Throws `TensorError` when the count does not fit.
  public init(_ shape: Shape, _ values: [UInt8]) throws {
    try self.init(TensorType(shape, .uint8), bytes: values)
  }

  /// The elements as floats, whatever the type.
  public var floats: [Float] {
    switch dtype {
    case .float32: elements(Float.self)
    case .float16: elements(Float16.self).map { Float($0) }
    case .bfloat16: elements(UInt16.self).map { Float(bfloat16: $0) }
    case .float64, .int32, .uint8: doubles.map { Float($0) }
    }
  }

  /// The elements as doubles, whatever the type; exact for every type Keel has.
  public var doubles: [Double] {
    switch dtype {
    case .float32: elements(Float.self).map { Double($0) }
    case .float64: elements(Double.self)
    case .float16: elements(Float16.self).map { Double($0) }
    case .bfloat16: elements(UInt16.self).map { Double(Float(bfloat16: $0)) }
    case .int32: elements(Int32.self).map { Double($0) }
    case .uint8: bytes.map { Double($0) }
    }
  }

  /// The same values in another element type, rounded to nearest (integers saturate).
  public func converted(to dtype: DType) -> HostTensor {
    if dtype == self.dtype { return self }
    return HostTensor(fitting: TensorType(shape, dtype), bytes: Self.bytes(of: doubles, as: dtype))
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

  private static func bytes(of values: [Double], as dtype: DType) -> [UInt8] {
    switch dtype {
    case .float32: bytes(of: values.map { Float($0) })
    case .float64: bytes(of: values)
    case .float16: bytes(of: values.map { Float16($0) })
    case .bfloat16: bytes(of: values.map(\.bfloat16))
    case .int32: bytes(of: values.map { Int32(clampingToRange: $0) })
    case .uint8: values.map { UInt8(clamping: Int32(clampingToRange: $0)) }
    }
  }
}

/// A tensor and what was asked of it do not fit.
public struct TensorError: Error, Equatable, CustomStringConvertible {
  /// `[tensor] what was expected, what came`.
  public let description: String
  /// An error of this text.
  public init(_ description: String) { self.description = description }
}

extension Int32 {
  /// The nearest representable integer; 0 for NaN.
  init(clampingToRange value: Double) {
    if value.isNaN { self = 0 } else { self = Int32(Swift.min(Swift.max(value, -2_147_483_648), 2_147_483_647)) }
  }
}

extension Float {
  /// The value of which `bits` are the upper half: exact.
  init(bfloat16 bits: UInt16) { self.init(bitPattern: UInt32(bits) << 16) }
}

extension Double {
  /// The bits of the nearest bfloat16, ties to even; NaN stays NaN.
  var bfloat16: UInt16 {
    if isNaN { return 0x7FC0 }
    // First to a float, rounded to odd: cut off, and the last bit set where that lost something. Then no tie of the
    // second rounding is one that the first has made.
    var single = Float(self)
    if single.magnitude > Float.greatestFiniteMagnitude, isFinite {
      single = sign == .minus ? -Float.greatestFiniteMagnitude : Float.greatestFiniteMagnitude
    } else if Double(single).magnitude > magnitude {
      single = Float(bitPattern: single.bitPattern - 1)
    }
    let bits = Double(single) == self ? single.bitPattern : single.bitPattern | 1
    return UInt16(truncatingIfNeeded: (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
  }
}
