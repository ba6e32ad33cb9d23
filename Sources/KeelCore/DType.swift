/// The element types that a tensor can have.
public enum DType: String, Hashable, Sendable, Codable, CaseIterable, CustomStringConvertible {
  case float32 = "f32"
  case float64 = "f64"
  case int32 = "i32"
  case uint8 = "u8"

  /// Bytes of one element.
  public var byteCount: Int {
    switch self {
    case .float64: 8
    case .float32, .int32: 4
    case .uint8: 1
    }
  }

  /// Whether it is one of the two types that gradients flow through.
  public var isFloatingPoint: Bool { self == .float32 || self == .float64 }

  /// The name of the type in OpenCL C.
  public var openCLName: String {
    switch self {
    case .float32: "float"
    case .float64: "double"
    case .int32: "int"
    case .uint8: "uchar"
    }
  }

  public var description: String { rawValue }
}

/// What is known of a tensor before it has values: `f32[32, 10]`.
public struct TensorType: Hashable, Sendable, Codable, CustomStringConvertible {
  /// The extents.
  public var shape: Shape
  /// The type of an element.
  public var dtype: DType

  /// The type of a tensor of `shape`.
  public init(_ shape: Shape, _ dtype: DType = .float32) {
    self.shape = shape
    self.dtype = dtype
  }

  /// Number of elements; `Int.max` where an `Int` cannot hold it.
  public var count: Int { shape.count }
  /// Bytes of all elements; `Int.max` where an `Int` cannot hold it.
  public var byteCount: Int { shape.count.multipliedSaturating(by: dtype.byteCount) }

  public var description: String {
    "\(dtype)[" + shape.dimensions.map(String.init).joined(separator: ", ") + "]"
  }
}
