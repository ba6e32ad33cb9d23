import KeelCore

/// How the first values of a parameter are drawn.
///
/// The fans are read from the shape [.., inputs, outputs]: fan-in is inputs and fan-out is outputs, each times the
/// extents before them. A vector has both equal to its length.
public enum Initializer: Hashable, Sendable {
  /// All 0.
  case zeros
  /// All 1.
  case ones
  /// All this number, which is finite.
  case constant(Double)
  /// Normal with σ = √(2 / fan-in), for layers before a ReLU. Source: He, Zhang, Ren, Sun 2015, equation 10.
  case heNormal
  /// Uniform in ±√(6 / fan-in): the same variance as ``heNormal``.
  case heUniform
  /// Normal with σ = √(2 / (fan-in + fan-out)), for sigmoid and tanh. Source: Glorot & Bengio 2010, equation 12.
  case glorotNormal
  /// Uniform in ±√(6 / (fan-in + fan-out)). Source: Glorot & Bengio 2010, equation 16.
  case glorotUniform
  /// Uniform in ±1 / √fan-in: what PyTorch's `Linear` starts with (its `kaiming_uniform_` with a = √5).
  case fanInUniform
  /// Uniform in ±bound.
  case uniform(Double)
  /// Normal with mean 0 and this standard deviation.
  case normal(Double)

  /// The first values of a parameter, a function of the arguments alone. The float32 values are the float64 ones,
  /// rounded.
  ///
  /// - Parameters:
  ///   - seed: the user's seed.
  ///   - position: place of the parameter in the model; each place has its own stream of random numbers.
  /// - Throws: ``SettingsError`` for a shape without positive extents, a bound or deviation that is negative or not
  ///   finite, an element type that is not floating point.
  public func values(_ type: TensorType, seed: UInt64, position: Int) throws -> HostTensor {
    if let problem = problem ?? type.shape.problem { throw SettingsError("initializer", problem) }
    guard type.dtype.isFloatingPoint else {
      throw SettingsError("initializer", "expects a floating-point type, got \(type)")
    }
    var random = Philox(seed: seed, stream: Self.firstStream + UInt64(Swift.max(position, 0)))
    let (fanIn, fanOut) = Self.fans(type.shape)
    let count = type.count
    func normal(_ deviation: Double) -> [Double] { (0..<count).map { _ in deviation * random.nextNormal() } }
    func uniform(_ bound: Double) -> [Double] { (0..<count).map { _ in bound * (2 * random.nextUniform() - 1) } }
    let values =
      switch self {
      case .zeros: [Double](repeating: 0, count: count)
      case .ones: [Double](repeating: 1, count: count)
      case .constant(let value): [Double](repeating: value, count: count)
      case .heNormal: normal((2 / fanIn).squareRoot())
      case .heUniform: uniform((6 / fanIn).squareRoot())
      case .glorotNormal: normal((2 / (fanIn + fanOut)).squareRoot())
      case .glorotUniform: uniform((6 / (fanIn + fanOut)).squareRoot())
      case .fanInUniform: uniform((1 / fanIn).squareRoot())
      case .uniform(let bound): uniform(bound)
      case .normal(let deviation): normal(deviation)
      }
    return try HostTensor(type, values: values)
  }

  /// Streams of parameters begin here, far from those that count epochs.
  static let firstStream: UInt64 = 1 << 62

  static func fans(_ shape: Shape) -> (in: Double, out: Double) {
    let dimensions = shape.dimensions
    guard let outputs = dimensions.last else { return (1, 1) }
    guard dimensions.count > 1 else { return (Double(outputs), Double(outputs)) }
    let field = dimensions.dropLast(2).reduce(1, *)
    return (Double(dimensions[dimensions.count - 2] * field), Double(outputs * field))
  }

  /// What is wrong with the settings; nil when nothing is.
  var problem: String? {
    switch self {
    case .constant(let value) where !value.isFinite: "expects a finite constant, got \(value)"
    case .uniform(let bound) where !(bound >= 0 && bound.isFinite): "expects a finite bound of 0 or more, got \(bound)"
    case .normal(let deviation) where !(deviation >= 0 && deviation.isFinite):
      "expects a finite standard deviation of 0 or more, got \(deviation)"
    default: nil
    }
  }
}

/// As `{"kind": "heNormal"}`, `{"kind": "uniform", "value": 0.1}`.
extension Initializer: Codable {
  private enum CodingKeys: CodingKey { case kind, value }

  private var code: (kind: String, value: Double?) {
    switch self {
    case .zeros: ("zeros", nil)
    case .ones: ("ones", nil)
    case .constant(let value): ("constant", value)
    case .heNormal: ("heNormal", nil)
    case .heUniform: ("heUniform", nil)
    case .glorotNormal: ("glorotNormal", nil)
    case .glorotUniform: ("glorotUniform", nil)
    case .fanInUniform: ("fanInUniform", nil)
    case .uniform(let bound): ("uniform", bound)
    case .normal(let deviation): ("normal", deviation)
    }
  }

  /// The kind and, where there is one, the value.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(code.kind, forKey: .kind)
    try container.encodeIfPresent(code.value, forKey: .value)
  }

  /// Throws ``SettingsError`` for an unknown kind, `DecodingError` for what is missing.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    let kind = try container.decode(String.self, forKey: .kind)
    func value() throws -> Double { try container.decode(Double.self, forKey: .value) }
    switch kind {
    case "zeros": self = .zeros
    case "ones": self = .ones
    case "constant": self = .constant(try value())
    case "heNormal": self = .heNormal
    case "heUniform": self = .heUniform
    case "glorotNormal": self = .glorotNormal
    case "glorotUniform": self = .glorotUniform
    case "fanInUniform": self = .fanInUniform
    case "uniform": self = .uniform(try value())
    case "normal": self = .normal(try value())
    default: throw SettingsError("initializer", "expects a known kind, got \(kind)")
    }
  }
}
