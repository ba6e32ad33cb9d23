import KeelCore
import KeelGraph

extension Tensor {
  /// max(x, 0), element by element.
  public func relu() -> Tensor { elementwise(.relu) }

  /// x where x > 0, else α·(eˣ − 1), element by element. α is more than 0.
  ///
  /// Source: Clevert, Unterthiner, Hochreiter 2016.
  public func elu(_ alpha: Double = 1) -> Tensor {
    // The derivative is written with the result, whose sign is that of x only for α > 0.
    guard alpha > 0, alpha.isFinite else { return rejected("elu", "expects alpha > 0, got \(alpha)") }
    return elementwise(.elu, alpha)
  }

  /// 1/(1 + e⁻ˣ), element by element.
  public func sigmoid() -> Tensor { elementwise(.sigmoid) }

  /// The hyperbolic tangent, element by element.
  public func tanh() -> Tensor { elementwise(.tanh) }

  /// All axes but the first as one: [N, ..] → [N, product of the rest].
  public func flattened() -> Tensor {
    guard shape.rank > 0 else { return rejected("flatten", "expects samples [N, ..], got \(shape)") }
    return shape.rank == 2 ? self : reshape([shape[0], shape.dimensions.dropFirst().reduce(1, *)])
  }
}

/// max(x, 0).
public struct ReLU: Layer {
  /// A layer without settings.
  public init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { x.relu() }
  public var configuration: LayerConfiguration? { .relu }
}

/// x where x > 0, else α·(eˣ − 1).
public struct ELU: Layer {
  /// Minus the limit for x → −∞; more than 0.
  public let alpha: Double

  /// - Parameter alpha: minus the limit for x → −∞; more than 0.
  public init(alpha: Double = 1) { self.alpha = alpha }
  public func callAsFunction(_ x: Tensor) -> Tensor { x.elu(alpha) }
  public var configuration: LayerConfiguration? { .elu(alpha: alpha) }
}

/// 1/(1 + e⁻ˣ).
public struct Sigmoid: Layer {
  /// A layer without settings.
  public init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { x.sigmoid() }
  public var configuration: LayerConfiguration? { .sigmoid }
}

/// The hyperbolic tangent.
public struct Tanh: Layer {
  /// A layer without settings.
  public init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { x.tanh() }
  public var configuration: LayerConfiguration? { .tanh }
}

/// Each sample as one vector: [N, ..] → [N, product of the rest].
public struct Flatten: Layer {
  /// A layer without settings.
  public init() {}
  public func callAsFunction(_ x: Tensor) -> Tensor { x.flattened() }
  public var configuration: LayerConfiguration? { .flatten }
}
