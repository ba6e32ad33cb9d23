import KeelCore

/// The description of a network that is stored with its weights.
///
/// As JSON an object with its `type`, `{"type": "linear", "inputs": 784, "outputs": 32, …}`. Values and freezing are
/// not part of it. Reading checks every setting.
public enum LayerConfiguration: Hashable, Sendable {
  /// ``Linear``.
  case linear(Linear.Options)
  /// ``BatchNorm``.
  case batchNorm(BatchNorm.Options)
  /// ``ReLU``.
  case relu
  /// ``ELU`` with α > 0.
  case elu(alpha: Double)
  /// ``Sigmoid``.
  case sigmoid
  /// ``Tanh``.
  case tanh
  /// ``Flatten``.
  case flatten
  /// ``Sequential`` of these layers.
  case sequential([LayerConfiguration])

  /// A new layer of this description, its parameters without values.
  public func makeLayer() -> any Layer {
    switch self {
    case .linear(let options): Linear(options)
    case .batchNorm(let options): BatchNorm(options)
    case .relu: ReLU()
    case .elu(let alpha): ELU(alpha: alpha)
    case .sigmoid: Sigmoid()
    case .tanh: Tanh()
    case .flatten: Flatten()
    case .sequential(let layers): Sequential(layers.map { $0.makeLayer() })
    }
  }
}

extension LayerConfiguration: Codable {
  private enum CodingKeys: CodingKey { case type, alpha, layers }

  private enum Kind: String, CaseIterable { case linear, batchNorm, relu, elu, sigmoid, tanh, flatten, sequential }

  private var kind: Kind {
    switch self {
    case .linear: .linear
    case .batchNorm: .batchNorm
    case .relu: .relu
    case .elu: .elu
    case .sigmoid: .sigmoid
    case .tanh: .tanh
    case .flatten: .flatten
    case .sequential: .sequential
    }
  }

  /// The type and the settings beside it.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(kind.rawValue, forKey: .type)
    switch self {
    case .linear(let options): try options.encode(to: encoder)
    case .batchNorm(let options): try options.encode(to: encoder)
    case .elu(let alpha): try container.encode(alpha, forKey: .alpha)
    case .sequential(let layers): try container.encode(layers, forKey: .layers)
    case .relu, .sigmoid, .tanh, .flatten: break
    }
  }

  /// Throws a ``SettingsError`` for an unknown type and for settings that no layer can have, `DecodingError` for
  /// missing ones.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    let name = try container.decode(String.self, forKey: .type)
    guard let kind = Kind(rawValue: name) else {
      let known = Kind.allCases.map(\.rawValue).joined(separator: ", ")
      throw SettingsError("configuration", "expects a layer type of \(known), got \(name)")
    }
    func checked<Options>(_ options: Options, _ problem: String?) throws -> Options {
      if let problem { throw SettingsError(name, problem) }
      return options
    }
    switch kind {
    case .linear:
      let options = try Linear.Options(from: decoder)
      self = .linear(try checked(options, options.problem))
    case .batchNorm:
      let options = try BatchNorm.Options(from: decoder)
      self = .batchNorm(try checked(options, options.problem))
    case .elu:
      let alpha = try container.decode(Double.self, forKey: .alpha)
      self = .elu(alpha: try checked(alpha, alpha > 0 && alpha.isFinite ? nil : "expects alpha > 0, got \(alpha)"))
    case .sequential: self = .sequential(try container.decode([LayerConfiguration].self, forKey: .layers))
    case .relu: self = .relu
    case .sigmoid: self = .sigmoid
    case .tanh: self = .tanh
    case .flatten: self = .flatten
    }
  }
}
