import KeelCore
import KeelGraph

extension BatchNorm {
  /// All settings of the layer as one value.
  public struct Options: Codable, Hashable, Sendable {
    /// Extent of the axis; more than 0.
    public var channels: Int
    /// Where the channels are; negative counts from the end, −1 is the last.
    public var axis: Int
    /// ε, what is added to the variance; more than 0.
    public var epsilon: Double
    /// How far a batch moves the running statistics.
    public var momentum: Momentum
    /// Which variance goes into the running one.
    public var runningVariance: RunningVariance
    /// Whether there is a γ.
    public var scale: Bool
    /// Whether there is a β.
    public var shift: Bool
    /// Whether there are running statistics.
    public var tracksRunningStatistics: Bool

    /// What is wrong with the settings; nil when nothing is.
    var problem: String? {
      if let problem = Shape([channels]).problem { return problem }
      guard epsilon > 0, epsilon.isFinite else { return "expects epsilon > 0, got \(epsilon)" }
      return momentum.problem
    }

    /// What is wrong with them for one element type: an ε that becomes 0 protects nothing.
    func problem(in dtype: DType) -> String? {
      let smallest = dtype == .float64 ? Double.leastNormalMagnitude : Double(Float.leastNormalMagnitude)
      return epsilon < smallest ? "expects epsilon of at least \(smallest) in \(dtype), got \(epsilon)" : nil
    }
  }
}

extension BatchNorm.Momentum {
  fileprivate var problem: String? {
    let (name, weight): (String, Double)
    switch self {
    case .new(let new): (name, weight) = ("new", new)
    case .old(let old): (name, weight) = ("old", old)
    case .cumulative: return nil
    }
    // NaN is in no range.
    return (0...1).contains(weight) ? nil : "expects a momentum .\(name) in 0…1, got \(weight)"
  }
}

/// As `{"new": 0.1}`, `{"old": 0.99}` or `{"cumulative": true}`: the weight is stored as it was given.
extension BatchNorm.Momentum: Codable {
  private enum CodingKeys: CodingKey { case new, old, cumulative }

  /// One key, `new`, `old` or `cumulative`.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    switch self {
    case .new(let weight): try container.encode(weight, forKey: .new)
    case .old(let weight): try container.encode(weight, forKey: .old)
    case .cumulative: try container.encode(true, forKey: .cumulative)
    }
  }

  /// Throws `DecodingError` when none of the keys is there. The range is checked with the layer's other settings.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    if try container.decodeIfPresent(Bool.self, forKey: .cumulative) == true {
      self = .cumulative
    } else if let weight = try container.decodeIfPresent(Double.self, forKey: .old) {
      self = .old(weight)
    } else {
      self = .new(try container.decode(Double.self, forKey: .new))
    }
  }
}
