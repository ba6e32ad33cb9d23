/// The element types that a tensor can have.
///
/// `float16` and `bfloat16` are types of storage: values take 16 bits in memory and are computed in `float32`, then
/// rounded once, to nearest, when they are stored. Operations that do not take them say so; `cast(to:)` converts.
public enum DType: String, Hashable, Sendable, Codable, CaseIterable, CustomStringConvertible {
  case float32 = "f32"
  case float64 = "f64"
  /// IEEE binary16: 5 bits of exponent, 11 of significand; 65504 at most.
  case float16 = "f16"
  /// The upper half of a `float32`: 8 bits of exponent, 8 of significand.
  case bfloat16 = "bf16"
  case int32 = "i32"
  case uint8 = "u8"

  /// Bytes of one element.
  public var byteCount: Int {
    switch self {
    case .float64: 8
    case .float32, .int32: 4
    case .float16, .bfloat16: 2
    case .uint8: 1
    }
  }

  /// Whether it is one of the four types that gradients flow through.
  public var isFloatingPoint: Bool {
    switch self {
    case .float32, .float64, .float16, .bfloat16: true
    case .int32, .uint8: false
    }
  }

  /// The type in which values of this one are computed: `float32` for the types of storage, else the type itself.
  public var arithmetic: DType { isStorageOnly ? .float32 : self }

  /// Whether values are only stored in this type, and computed in another: ``arithmetic``.
  public var isStorageOnly: Bool { self == .float16 || self == .bfloat16 }

  /// The distance from 1 to the next larger value; 1 for integers.
  public var epsilon: Double {
    switch self {
    case .float32: 0x1p-23
    case .float64: 0x1p-52
    case .float16: 0x1p-10
    case .bfloat16: 0x1p-7
    case .int32, .uint8: 1
    }
  }

  /// Whether every value of `other` is one of this type.
  public func hasAllValues(of other: DType) -> Bool {
    switch (self, other) {
    case (.float64, _), (.float32, .float16), (.float32, .bfloat16), (.float32, .uint8), (.int32, .uint8),
      (.bfloat16, .uint8), (.float16, .uint8):
      true
    default: self == other
    }
  }

  /// The smallest positive value that has all digits; 1 for integers.
  public var leastNormalMagnitude: Double {
    switch self {
    case .float32, .bfloat16: 0x1p-126
    case .float64: 0x1p-1022
    case .float16: 0x1p-14
    case .int32, .uint8: 1
    }
  }

  /// The largest finite value.
  public var greatestFiniteMagnitude: Double {
    switch self {
    case .float32: Double(Float.greatestFiniteMagnitude)
    case .float64: Double.greatestFiniteMagnitude
    case .float16: 65504
    case .bfloat16: 0x1.FEp127
    case .int32: Double(Int32.max)
    case .uint8: 255
    }
  }

  /// The name of the type in kernels: of OpenCL C, but for `bfloat16`, which `storage.clh` defines. There is no
  /// arithmetic in `half` and `bfloat16`: kernels load and store them as `storage.clh` says.
  public var openCLName: String {
    switch self {
    case .float32: "float"
    case .float64: "double"
    case .float16: "half"
    case .bfloat16: "bfloat16"
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
