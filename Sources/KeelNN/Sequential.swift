import KeelCore
import KeelGraph

/// Layers one behind the other.
///
///     let model = Sequential {
///       Linear(784, 32, bias: false)
///       BatchNorm(32)
///       ReLU()
///       Linear(32, 10)
///     }
public struct Sequential: Layer {
  /// In the order in which they are called.
  public let layers: [any Layer]
  let place = Place()

  /// The layers between the braces.
  public init(@LayerBuilder _ layers: () -> [any Layer]) { self.layers = layers() }

  /// The layers of a list; without any, the operand is the result.
  public init(_ layers: [any Layer]) { self.layers = layers }

  /// The last layer's result.
  public func callAsFunction(_ x: Tensor) -> Tensor {
    layers.indices.reduce(x) { x, index in
      x.builder.scope(at: path(of: index, under: x.builder.path)) { layers[index](x) }
    }
  }

  /// Path of a child; under that of the caller as long as this is not part of a model.
  func path(of index: Int, under caller: String) -> String {
    (place.path ?? caller).appending(component: Self.component(index))
  }

  static func component(_ index: Int) -> String { "layers.\(index)" }

  /// Nil when one of the layers has none.
  public var configuration: LayerConfiguration? {
    let known = layers.compactMap(\.configuration)
    return known.count == layers.count ? .sequential(known) : nil
  }
}

/// Where a layer without variables of its own stands in the model.
final class Place {
  /// Nil before the layer is part of a ``Model``.
  var path: String?
}

/// Collects the layers between the braces of ``Sequential``; `if`, `switch` and `for` choose and repeat.
@resultBuilder
public enum LayerBuilder {
  /// A layer.
  public static func buildExpression(_ layer: any Layer) -> [any Layer] { [layer] }
  /// A list of layers.
  public static func buildExpression(_ layers: [any Layer]) -> [any Layer] { layers }
  /// Lines one behind the other.
  public static func buildBlock(_ parts: [any Layer]...) -> [any Layer] { parts.flatMap { $0 } }
  /// An `if` without `else`.
  public static func buildOptional(_ part: [any Layer]?) -> [any Layer] { part ?? [] }
  /// The first branch of `if` or `switch`.
  public static func buildEither(first part: [any Layer]) -> [any Layer] { part }
  /// Another branch.
  public static func buildEither(second part: [any Layer]) -> [any Layer] { part }
  /// A `for` loop.
  public static func buildArray(_ parts: [[any Layer]]) -> [any Layer] { parts.flatMap { $0 } }
  /// An `if #available`.
  public static func buildLimitedAvailability(_ part: [any Layer]) -> [any Layer] { part }
}
