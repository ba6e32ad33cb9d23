import Foundation
import KeelCore
import KeelGraph
import KeelIO
import KeelNN
import Testing

@testable import KeelTrain

extension TrainingTests {
  /// A model written to a file and read back, and files that hold none.
  @Suite struct SavedModels {
    private let folder: String
    private let path: String

    init() throws {
      folder = NSTemporaryDirectory() + "/keel-model-" + UUID().uuidString
      path = folder + "/model.safetensors"
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }

    private func removeFolder() { try? FileManager.default.removeItem(atPath: folder) }

    private func trainer(_ model: Model, _ dtype: DType) throws -> Trainer {
      try Trainer(
        model, loss: .softmaxCrossEntropy, optimizer: Adam(learningRate: 0.01), on: TrainingTests.device(),
        dtype: dtype)
    }

    private func description(_ network: LayerConfiguration, _ sample: Shape = [8]) -> SavedModel.Description {
      SavedModel.Description(
        network: network, loss: .softmaxCrossEntropy, sampleShape: sample, scale: 1, classCount: 4, data: "clusters")
    }

    @Test func variablesOfOneNameAreNotWritten() throws {
      defer { removeFolder() }
      struct Heads: Layer {
        let heads: [String: any Layer] = ["a": Sequential([Linear(8, 4)]), "a.layers.0": Linear(8, 4)]
        func callAsFunction(_ x: Tensor) -> Tensor { x }
      }
      let model = Model(Heads())
      for parameter in model.parameters { parameter.value = HostTensor(zeros: TensorType(parameter.shape, .float32)) }
      #expect(
        message { try SavedModel(model, description(.relu)).write(to: path) }
          == "[model] \(path): expected a name for each variable, got two variables named heads.a.layers.0.weight")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == [])
    }

    @Test(arguments: [DType.float32, .float64], ["mnist-bn", "mnist-plain", "hands-on"])
    func roundTrip(dtype: DType, name: String) throws {
      defer { removeFolder() }
      guard TrainingTests.has(try TrainingTests.device(), dtype, "saved model \(name)") else { return }
      let recipe = try #require(Recipe(rawValue: name))
      let model = Model(recipe.network(inputs: 8, classes: 4))
      let trainer = try trainer(model, dtype)
      try trainer.fit(clusters(64), epochs: 1, batchSize: 32)
      var description = description(try #require(model.configuration))
      description.scale = 1.0 / 255
      description.recipe = name
      try SavedModel(model, description).write(to: path)

      let read = try SavedModel(reading: path)
      #expect(read.description == description)
      #expect(read.model.state.map(\.name) == model.state.map(\.name))
      #expect(read.model.state.map(\.value) == model.state.map(\.value))
      let test = try clusters(40, seed: 3)
      let other = try self.trainer(read.model, dtype)
      #expect(try other.evaluate(test) == trainer.evaluate(test))
      #expect(try other.predict(test.features) == trainer.predict(test.features))
      // The same model gives the same file.
      let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
      try SavedModel(read.model, read.description).write(to: path)
      #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == bytes)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder) == ["model.safetensors"])
    }

    /// Values go on in single precision after they were learnt in double.
    @Test func anotherElementType() throws {
      defer { removeFolder() }
      guard TrainingTests.has(try TrainingTests.device(), .float64, "saved model in another type") else { return }
      let model = Model(network())
      let trainer = try trainer(model, .float64)
      try trainer.fit(clusters(64), epochs: 1, batchSize: 32)
      try SavedModel(model, description(try #require(model.configuration))).write(to: path)
      let narrow = try self.trainer(SavedModel(reading: path).model, .float32)
      let test = try clusters(40, seed: 3)
      #expect(abs(try narrow.evaluate(test).loss - trainer.evaluate(test).loss) < 1e-6)
    }

    // MARK: Files that hold no model

    private func write(_ bytes: [UInt8]) throws { try Data(bytes).write(to: URL(fileURLWithPath: path)) }

    /// A file whose description is the given text.
    private func write(description text: String, _ tensors: [String: HostTensor] = [:]) throws {
      try Safetensors(tensors: tensors, metadata: ["keel.model": text]).write(to: path)
    }

    private var error: String { message { try SavedModel(reading: path) } }

    @Test func otherFiles() throws {
      defer { removeFolder() }
      #expect(error.contains(path) && error.hasPrefix("["))
      try write([])
      #expect(error == "[safetensors] \(path): truncated: 0 bytes, expected at least 8")
      try write(Array("a text that is no model at all".utf8))
      #expect(error.hasPrefix("[safetensors] \(path): header of "))
      try Safetensors(tensors: ["a": HostTensor([1], [Float(1)])], metadata: ["format": "pt"]).write(to: path)
      #expect(error == "[model] \(path): expected the description of a network in metadata keel.model, got none")
    }

    @Test func truncated() throws {
      defer { removeFolder() }
      let model = Model(Linear(8, 4))
      try model.initialize(seed: 1)
      try SavedModel(model, description(try #require(model.configuration))).write(to: path)
      let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
      #expect(try SavedModel(reading: path).model.state.count == 2)
      for length in stride(from: 0, to: bytes.count, by: 13) {
        try write(Array(bytes.prefix(length)))
        #expect(error.hasPrefix("[safetensors] \(path): "), "\(length) bytes")
      }
    }

    /// The JSON of a description with some text replaced.
    private func text(_ network: String, sample: String = "[8]", scale: String = "1", classes: String = "4") -> String {
      """
      {"network": \(network), "loss": "softmaxCrossEntropy", "sampleShape": {"dimensions": \(sample)}, \
      "scale": \(scale), "classCount": \(classes), "data": "clusters"}
      """
    }

    private static let linear =
      #"{"type": "linear", "inputs": 8, "outputs": 4, "bias": false, "weight": {"kind": "zeros"}}"#

    private func expect(_ text: String, says words: [String], tensors: [String: HostTensor]? = nil) throws {
      try write(description: text, tensors ?? ["weight": HostTensor(zeros: TensorType([8, 4], .float32))])
      let error = error
      #expect(error.hasPrefix("[model] \(path): "), "\(error)")
      for word in words { #expect(error.contains(word), "\(error)") }
    }

    @Test func descriptionsThatAreNone() throws {
      defer { removeFolder() }
      // First that this way of writing one is right.
      try write(description: text(Self.linear), ["weight": HostTensor(zeros: TensorType([8, 4], .float32))])
      let network = try #require(Linear(8, 4, bias: false, weight: .zeros).configuration)
      #expect(try SavedModel(reading: path).description == description(network))

      for text in ["", "{", "[]", "null", "{}", text("{}"), text("[1]"), text(#"{"type": "linear", "inputs": 8}"#)] {
        try expect(text, says: ["description of the network can't be read"])
      }
      try expect(text(#"{"type": "transformer"}"#), says: ["linear, batchNorm, relu", "got transformer"])
      try expect(text(#"{"type": "elu", "alpha": -1}"#), says: ["[elu] expects alpha > 0, got -1.0"])
      try expect(
        text(Self.linear).replacing("softmaxCrossEntropy", with: "hinge"), says: ["can't be read", "hinge"])
      // Nested as deep as no network is.
      let deep =
        String(repeating: #"{"type": "sequential", "layers": ["#, count: 20_000)
        + String(repeating: "]}", count: 20_000)
      try expect(text(deep), says: ["can't be read"])
    }

    @Test func absurdSizes() throws {
      defer { removeFolder() }
      func linear(_ inputs: String, _ outputs: String) -> String {
        Self.linear.replacing("8", with: inputs).replacing("4,", with: outputs + ",")
      }
      try expect(text(linear("4000000000", "4000000000")), says: ["[linear] expects at most 2147483647 elements"])
      try expect(text(linear("9223372036854775807", "9223372036854775807")), says: ["expects at most 2147483647"])
      try expect(text(linear("1e300", "4")), says: ["can't be read"])
      try expect(text(linear("-8", "4")), says: ["[linear] expects positive extents, got [-8, 4]"])
      try expect(text(linear("0", "4")), says: ["[linear] expects positive extents, got [0, 4]"])
      // As large as may be, but not what is in the file.
      try expect(text(linear("2147483647", "1")), says: ["weight is f32[8, 4]", "[2147483647, 1]"])
      for sample in ["[]", "[7]", "[2, 8, 3]"] { try expect(text(Self.linear, sample: sample), says: ["[linear] "]) }
      for sample in ["[0]", "[-8]", "[9223372036854775807, 2]", "[4000000000, 8]"] {
        try expect(text(Self.linear, sample: sample), says: ["[summary] expects "])
      }
      try expect(text(Self.linear, scale: "0"), says: ["expected a scale above 0", "0.0"])
      try expect(text(Self.linear, scale: "1e999"), says: ["model"])
      try expect(text(Self.linear, classes: "-1"), says: ["0 or more classes", "-1"])
    }

    @Test func tensorsThatDoNotFit() throws {
      defer { removeFolder() }
      func float(_ shape: Shape) -> HostTensor { HostTensor(zeros: TensorType(shape, .float32)) }
      let load = "[load] expects the variables of the model: "
      try expect(text(Self.linear), says: [load + "weight is missing"], tensors: [:])
      try expect(
        text(Self.linear), says: [load + "weight is f32[4, 8], expected real numbers of shape [8, 4]"],
        tensors: ["weight": float([4, 8])])
      try expect(
        text(Self.linear), says: [load + "weight is i32[8, 4], expected real numbers of shape [8, 4]"],
        tensors: ["weight": HostTensor(zeros: TensorType([8, 4], .int32))])
      try expect(
        text(Self.linear), says: [load + "bias is no variable of the model"],
        tensors: ["weight": float([8, 4]), "bias": float([4])])
      // Layers that do not fit each other, each with what it asks for.
      let network = """
        {"type": "sequential", "layers": [\(Self.linear), {"type": "batchNorm", "channels": 5, "axis": -1, \
        "epsilon": 1e-5, "momentum": {"new": 0.1}, "runningVariance": "unbiased", "scale": false, "shift": false, \
        "tracksRunningStatistics": false}]}
        """
      try expect(
        text(network), says: ["[batchNorm] layers.1: expects 5 channels on axis 1, got [N, 4]"],
        tensors: ["layers.0.weight": float([8, 4])])
    }

    @Test func placesThatCannotBeWritten() throws {
      defer { removeFolder() }
      let model = Model(Linear(8, 4))
      try model.initialize(seed: 1)
      let saved = SavedModel(model, description(try #require(model.configuration)))
      let error = message { try saved.write(to: folder + "/no/such/folder/model") }
      #expect(error.contains(folder + "/no/such/folder"))
    }
  }
}
