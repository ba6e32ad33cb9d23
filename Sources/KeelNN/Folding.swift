import KeelCore
import KeelGraph

/// A network whose batch norms were folded into linear layers, and what became of each of them.
///
/// In evaluation batch norm is a scale and a shift of each channel, which a linear layer beside it can take over:
///
///     after one    y = BN(x·W + b)    W' = W·diag(s)    b' = (b − μ_r)·s + β      s = γ/√(σ²_r + ε)
///     before one   y = BN(x)·W + b    W' = diag(s)·W    b' = b + Wᵀ·t             t = β − μ_r·s
///
/// The new weights are computed in double precision and stored in the type of the old ones. A folded network is for
/// evaluation: trained further it learns another way, for nothing normalizes any more.
public struct Folding {
  /// One batch norm.
  public struct Entry: Hashable, Sendable, CustomStringConvertible {
    /// What became of it.
    public enum Outcome: Hashable, Sendable {
      /// Path of the linear layer right before it, which now does its work.
      case intoPreceding(String)
      /// The same for the one right after it.
      case intoFollowing(String)
      /// It stays; why.
      case kept(String)
    }

    /// Paths are those of the original network.
    public var path: String
    /// Where it went, or why it stays.
    public var outcome: Outcome

    /// Whether a linear layer does its work now.
    public var isFolded: Bool {
      if case .kept = outcome { false } else { true }
    }

    /// As `layers.1: folded into layers.0 before it`.
    public var description: String {
      switch outcome {
      case .intoPreceding(let linear): "\(path): folded into \(linear) before it"
      case .intoFollowing(let linear): "\(path): folded into \(linear) after it"
      case .kept(let reason): "\(path): kept, \(reason)"
      }
    }
  }

  /// How much must be foldable.
  public enum Extent: String, Hashable, Sendable, CaseIterable {
    /// Every batch norm, and there must be one; else an error gives the reasons.
    case all
    /// Those that can be; the others stay.
    case partial
  }

  /// A new model of one ``Sequential`` without the layers that were folded. It shares nothing with the original.
  public let model: Model
  /// A line a batch norm, in the order of the network.
  public let entries: [Entry]

  /// How many of the batch norms are gone.
  public var foldedCount: Int { entries.filter(\.isFolded).count }
}

extension Model {
  /// The network with its batch norms folded into the linear layers beside them; this one is not changed. Evaluation
  /// gives the same outputs up to rounding.
  ///
  /// A batch norm goes into the linear layer right before it, else into the one right after it. It can't go through
  /// an activation, nor where it has no running statistics, nor where its channels are not the features of the linear
  /// layer. Flattening in between is no obstacle as long as each feature keeps one channel.
  ///
  /// Folding gives up that the mean is subtracted first. Where channels lie far from 0 for their spread, that costs
  /// digits, so where the rounding it lets through is expected above `tolerance` it is refused as inexact.
  ///
  /// - Parameters:
  ///   - extent: whether all must be foldable.
  ///   - sample: shape of one sample, without the batch axis. Needed where `axis` of a batch norm is not −1 and no
  ///     `Flatten` before it tells the rank.
  ///   - tolerance: bound of the error expected in the layer's output, relative to its root mean square.
  /// - Throws: ``SettingsError`` for a network that has no description (layers of your own, shared parameters) or no
  ///   values, and with `.all` when something can't be folded or there is nothing to fold.
  public func fold(
    _ extent: Folding.Extent = .all, sample: Shape? = nil, tolerance: Double = 1e-6
  ) throws -> Folding {
    try checkNames("fold")
    guard configuration != nil else {
      throw SettingsError("fold", "expects a network of Keel's own layers that share no parameters")
    }
    assignPaths()
    let values = parameters.map { ($0.path, $0.value) } + runningStatistics.map { ($0.path, $0.value) }
    if let missing = values.first(where: { $0.1 == nil }) {
      throw SettingsError("fold", "expects a model with values, \(missing.0) has none")
    }
    // Copying walks through the layers one by one, which gives their variables other names meanwhile.
    defer { assignPaths() }
    var chain = try FoldChain(root, sample: sample, tolerance: tolerance)
    let entries = chain.fold()
    if extent == .all {
      let kept = entries.filter { !$0.isFolded }
      guard kept.isEmpty else {
        throw SettingsError("fold", kept.map(\.description).joined(separator: "; "))
      }
      guard !entries.isEmpty else { throw SettingsError("fold", "expects a network with batch norm, got none") }
    }
    return Folding(model: try chain.model(), entries: entries)
  }

  /// The model of ``fold(_:sample:tolerance:)``, every batch norm folded.
  public func folded(sample: Shape? = nil, tolerance: Double = 1e-6) throws -> Model {
    try fold(.all, sample: sample, tolerance: tolerance).model
  }
}
