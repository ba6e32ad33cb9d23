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
    /// The layers and their settings.
    public var network: LayerConfiguration
    /// What was made small.
    public var loss: Loss
    /// Shape of one sample as it is stored, and what its values are multiplied by.
    public var sampleShape: Shape
    /// More than 0.
    public var scale: Double
    /// 0 for a regression.
    public var classCount: Int
    /// Name of the data set it was trained on.
    public var data: String
    /// Name of the recipe it was trained by, if any.
    public var recipe: String?

    /// A description of these parts; checked when it is read from a file.
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

  /// The network with its values.
  public let model: Model
  /// What is known of it.
  public let description: Description

  /// A model to be written.
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
  ///
  /// - Throws: `FormatError` when two variables of the model have one name, or when the file can't be written.
  public func write(to path: String) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    let text = String(decoding: try encoder.encode(description), as: UTF8.self)
    var tensors: [String: HostTensor] = [:]
    for (name, value) in model.state {
      guard tensors.updateValue(value, forKey: name) == nil else {
        throw FormatError("model", path, "expected a name for each variable, got two variables named \(name)")
      }
    }
    var metadata = [Self.key: text]
    metadata[Self.frozenKey] = try model.frozenList()
    try Safetensors(tensors: tensors, metadata: metadata).write(to: path)
  }
}
