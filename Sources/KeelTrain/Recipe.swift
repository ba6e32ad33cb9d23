import KeelNN

/// The networks that `keel train` knows, with the settings they are trained with.
public enum Recipe: String, Sendable, Codable, CaseIterable {
  /// Linear, batch norm, ReLU, twice with 32 units, then Linear.
  case mnistBN = "mnist-bn"
  /// The same without batch norm.
  case mnistPlain = "mnist-plain"
  /// Batch norm in front and before each activation: BN, 300 ELU, BN, 100 ELU, BN, 10, after the example by which
  /// Géron's "Hands-On Machine Learning" teaches batch normalization.
  case handsOn = "hands-on"

  /// - Parameters:
  ///   - inputs: values of a sample.
  ///   - classes: outputs.
  public func network(inputs: Int, classes: Int) -> Sequential {
    switch self {
    case .mnistBN:
      Sequential {
        Flatten()
        Linear(inputs, 32, bias: false)
        BatchNorm(32)
        ReLU()
        Linear(32, 32, bias: false)
        BatchNorm(32)
        ReLU()
        Linear(32, classes)
      }
    case .mnistPlain:
      Sequential {
        Flatten()
        Linear(inputs, 32)
        ReLU()
        Linear(32, 32)
        ReLU()
        Linear(32, classes)
      }
    case .handsOn:
      Sequential {
        Flatten()
        BatchNorm(inputs)
        Linear(inputs, 300, bias: false, weight: .heNormal)
        BatchNorm(300)
        ELU()
        Linear(300, 100, bias: false, weight: .heNormal)
        BatchNorm(100)
        ELU()
        Linear(100, classes, weight: .heNormal)
      }
    }
  }

  /// Passes over the data.
  public var epochs: Int { 10 }
  /// Samples of a step.
  public var batchSize: Int { 32 }
  /// Adam with η = 0.01.
  public var optimizer: Adam { Adam(learningRate: 0.01) }
}
