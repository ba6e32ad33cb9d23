import KeelGraph

/// How parameters follow their gradients. The formulas are those of ``UpdateRule``.
public protocol Optimizer: Sendable {
  /// η; schedules multiply it.
  var learningRate: Double { get set }
  /// The formula with these settings, without η.
  var rule: UpdateRule { get }
  /// Throws a ``SettingsError`` that names the setting out of its range.
  func validate() throws(SettingsError)
}

/// Stochastic gradient descent.
public struct SGD: Optimizer, Hashable {
  /// η ≥ 0.
  public var learningRate: Double
  /// μ in 0..<1, 0 unless said otherwise.
  public var momentum: Double
  /// Whether to look ahead along the momentum; false unless said otherwise.
  public var nesterov: Bool
  /// λ ≥ 0, 0 unless said otherwise.
  public var weightDecay: Double

  /// - Parameters:
  ///   - learningRate: η ≥ 0.
  ///   - momentum: μ in 0..<1.
  ///   - nesterov: look ahead along the momentum; needs μ > 0.
  ///   - weightDecay: λ ≥ 0, added to the gradient as λp.
  public init(learningRate: Double, momentum: Double = 0, nesterov: Bool = false, weightDecay: Double = 0) {
    self.learningRate = learningRate
    self.momentum = momentum
    self.nesterov = nesterov
    self.weightDecay = weightDecay
  }

  /// ``UpdateRule/sgd(momentum:nesterov:weightDecay:)`` with these settings.
  public var rule: UpdateRule { .sgd(momentum: momentum, nesterov: nesterov, weightDecay: weightDecay) }

  /// Throws for a setting out of the range that stands at it.
  public func validate() throws(SettingsError) {
    try expectNonNegative("sgd", "learningRate", learningRate)
    try expectFraction("sgd", "momentum", momentum)
    try expectNonNegative("sgd", "weightDecay", weightDecay)
    if nesterov, momentum == 0 { throw SettingsError("sgd", "expects momentum > 0 with nesterov, got 0") }
  }
}

/// Adam: steps scaled by running moments of the gradient.
///
/// Source: Kingma & Ba 2015, algorithm 1.
public struct Adam: Optimizer, Hashable {
  /// η ≥ 0.
  public var learningRate: Double
  /// Decay of the first moment, in 0..<1.
  public var beta1: Double
  /// Decay of the second moment, in 0..<1.
  public var beta2: Double
  /// ε > 0.
  public var epsilon: Double
  /// λ ≥ 0, 0 unless said otherwise.
  public var weightDecay: Double

  /// - Parameters:
  ///   - learningRate: η ≥ 0.
  ///   - beta1: decay of the first moment, in 0..<1.
  ///   - beta2: decay of the second moment, in 0..<1.
  ///   - epsilon: ε > 0, added to the root of the second moment.
  ///   - weightDecay: λ ≥ 0, added to the gradient as λp (not decoupled).
  public init(
    learningRate: Double = 1e-3, beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8,
    weightDecay: Double = 0
  ) {
    self.learningRate = learningRate
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
    self.weightDecay = weightDecay
  }

  /// ``UpdateRule/adam(beta1:beta2:epsilon:weightDecay:)`` with these settings.
  public var rule: UpdateRule { .adam(beta1: beta1, beta2: beta2, epsilon: epsilon, weightDecay: weightDecay) }

  /// Throws for a setting out of the range that stands at it.
  public func validate() throws(SettingsError) {
    try expectNonNegative("adam", "learningRate", learningRate)
    try expectFraction("adam", "beta1", beta1)
    try expectFraction("adam", "beta2", beta2)
    guard epsilon > 0, epsilon.isFinite else { throw SettingsError("adam", "expects epsilon > 0, got \(epsilon)") }
    try expectNonNegative("adam", "weightDecay", weightDecay)
  }
}

private func expectNonNegative(_ optimizer: String, _ setting: String, _ value: Double) throws(SettingsError) {
  guard value >= 0, value.isFinite else { throw SettingsError(optimizer, "expects \(setting) ≥ 0, got \(value)") }
}

private func expectFraction(_ optimizer: String, _ setting: String, _ value: Double) throws(SettingsError) {
  guard (0..<1).contains(value) else { throw SettingsError(optimizer, "expects \(setting) in 0..<1, got \(value)") }
}
