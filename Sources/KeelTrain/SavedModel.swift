import Foundation
import KeelCore
import KeelIO
import KeelNN

/// A model in a file: weights, running statistics, the network's description and what its inputs are.
///
/// The file is in the safetensors format; any reader of it finds the tensors under the names of ``Model/state``. What is
/// Keel's own is in the metadata: the description, and the names of frozen variables, which are frozen again when the
/// file is read.
public struct SavedModel {
  /// What is known of a network besides its variables.
  public struct Description: Codable, Sendable, Equatable {
    public var network: LayerConfiguration
    public var loss: Loss
    /// Shape of one sample as it is stored, and what its values are multiplied by.
    public var sampleShape: Shape
    public var scale: Double
    public var classCount: Int
    /// Name of the data set it was trained on.
    public var data: String
    public var recipe: String?

    public init(
      network: LayerConfiguration, loss: Loss, sampleShape: Shape, scale: Double, classCount: Int, data: String,
      recipe: String? = nil
    ) {
      self.network = network
      self.loss = loss
      self.sampleShape = sampleShape
      self.scale = scale
      self.classCount = classCount
      self.data = data
      self.recipe = recipe
    }
  }

  public let model: Model
  public let description: Description

  public init(_ model: Model, _ description: Description) {
    self.model = model
    self.description = description
  }

  private static let key = "keel.model"
  private static let frozenKey = "keel.frozen"

  /// Reads a file. Throws `FormatError` when it is no safetensors file, none of Keel's, or when its tensors, its network
  /// and the shape of its samples do not fit each other.
  public init(reading path: String) throws {
    let file = try Safetensors(reading: path)
    guard let text = file.metadata[Self.key] else {
      throw FormatError("model", path, "expected the description of a network in metadata \(Self.key), got none")
    }
    do {
      description = try JSONDecoder().decode(Description.self, from: Data(text.utf8))
    } catch {
      throw FormatError("model", path, "description of the network can't be read: \(error)")
    }
    guard description.scale.isFinite, description.scale > 0, description.classCount >= 0 else {
      throw FormatError(
        "model", path,
        "expected a scale above 0 and 0 or more classes, got \(description.scale) and \(description.classCount)")
    }
    model = Model(description.network.makeLayer())
    do {
      try model.load(file.tensors)
      try model.freeze(listed: file.metadata[Self.frozenKey])
      // Traces the network: layers that do not fit each other, or the samples, show here and not at their first use.
      _ = try model.summary(input: description.sampleShape.dimensions)
    } catch {
      throw FormatError("model", path, "\(error)")
    }
  }

  /// Writes the file under a temporary name, then renames it.
  public func write(to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let text = String(decoding: try encoder.encode(description), as: UTF8.self)
    let tensors = Dictionary(uniqueKeysWithValues: model.state.map { ($0.name, $0.value) })
    var metadata = [Self.key: text]
    metadata[Self.frozenKey] = try model.frozenList()
    try Safetensors(tensors: tensors, metadata: metadata).write(to: path)
  }
}
