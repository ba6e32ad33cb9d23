import Foundation
import KeelCore
import KeelGraph
import Testing

@testable import KeelNN

@Suite struct LayerConfigurationTests {
  private let network = Sequential {
    Flatten()
    Linear(12, 8, bias: false, weight: .uniform(0.1))
    BatchNorm(8, axis: 1, convention: .keras, shift: false)
    ELU(alpha: 0.3)
    Sequential {
      Linear(8, 8)
      Sigmoid()
      BatchNorm(8, momentum: .new(0.1), tracksRunningStatistics: false)
    }
    Tanh()
    ReLU()
    Linear(8, 3)
  }

  @Test func comesBackFromJSON() throws {
    let configuration = try #require(Model(network).configuration)
    let data = try JSONEncoder().encode(configuration)
    let decoded = try JSONDecoder().decode(LayerConfiguration.self, from: data)
    #expect(decoded == configuration)

    let (before, after) = (Model(network), Model(decoded.makeLayer()))
    #expect(after.parameters.map(\.path) == before.parameters.map(\.path))
    for mode in [Mode.training, .evaluation] {
      #expect(try printed(after.root, [5, 3, 4], mode: mode) == printed(before.root, [5, 3, 4], mode: mode))
    }
    try before.initialize(seed: 5)
    try after.initialize(seed: 5)
    #expect(after.state.map(\.value) == before.state.map(\.value))
  }

  @Test func isReadable() throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    func text(_ layer: any Layer) throws -> String {
      String(decoding: try encoder.encode(try #require(layer.configuration)), as: UTF8.self)
    }
    #expect(
      try text(
        Sequential {
          Linear(4, 2)
          ReLU()
        })
        == #"{"layers":[{"bias":true,"inputs":4,"outputs":2,"type":"linear","weight":{"kind":"fanInUniform"}},{"type":"relu"}],"type":"sequential"}"#
    )
    #expect(
      try text(BatchNorm(2, epsilon: 0.25, momentum: .old(0.99)))
        == #"{"axis":-1,"channels":2,"epsilon":0.25,"momentum":{"old":0.99},"runningVariance":"unbiased","scale":true,"shift":true,"tracksRunningStatistics":true,"type":"batchNorm"}"#
    )
  }

  @Test func everyInitializerComesBack() throws {
    let all: [Initializer] = [
      .zeros, .ones, .constant(0.1), .heNormal, .heUniform, .glorotNormal, .glorotUniform, .fanInUniform, .uniform(0.2),
      .normal(0.3),
    ]
    #expect(try JSONDecoder().decode([Initializer].self, from: JSONEncoder().encode(all)) == all)
  }

  @Test func customLayersHaveNone() {
    #expect(Residual(3).configuration == nil)
    #expect(
      Model(
        Sequential {
          ReLU()
          Sequential { Residual(3) }
        }
      ).configuration == nil)
  }

  @Test func refusesWhatNoLayerCanBe() {
    func linear(_ inputs: String, _ weight: String = #"{"kind":"ones"}"#) -> String {
      #"{"type":"linear","inputs":\#(inputs),"outputs":2,"bias":true,"weight":\#(weight)}"#
    }
    func norm(_ channels: String, _ epsilon: String, _ momentum: String) -> String {
      #"{"type":"batchNorm","channels":\#(channels),"axis":1,"epsilon":\#(epsilon),"momentum":\#(momentum),"runningVariance":"biased","scale":true,"shift":true,"tracksRunningStatistics":true}"#
    }
    let cases = [
      (linear("0"), "[linear] expects positive extents, got [0, 2]"),
      (linear("-5"), "[linear] expects positive extents, got [-5, 2]"),
      (linear("9223372036854775807"), "[linear] expects at most 2147483647 elements, got [9223372036854775807, 2]"),
      (linear("3", #"{"kind":"magic"}"#), "[initializer] expects a known kind, got magic"),
      (
        linear("3", #"{"kind":"normal","value":-1}"#),
        "[linear] expects a finite standard deviation of 0 or more, got -1.0"
      ),
      (norm("0", "1", #"{"new":0.1}"#), "[batchNorm] expects positive extents, got [0]"),
      (norm("3", "-1", #"{"new":0.1}"#), "[batchNorm] expects epsilon > 0, got -1.0"),
      (norm("3", "1", #"{"old":2}"#), "[batchNorm] expects a momentum .old in 0…1, got 2.0"),
      (#"{"type":"elu","alpha":0}"#, "[elu] expects alpha > 0, got 0.0"),
      (
        #"{"type":"conv2d"}"#,
        "[configuration] expects a layer type of linear, batchNorm, relu, elu, sigmoid, tanh, flatten, sequential, got conv2d"
      ),
      (
        #"{"type":"sequential","layers":[{"type":"relu"},\#(linear("0"))]}"#,
        "[linear] expects positive extents, got [0, 2]"
      ),
    ]
    for (json, message) in cases {
      let error = #expect(throws: SettingsError.self) {
        try JSONDecoder().decode(LayerConfiguration.self, from: Data(json.utf8))
      }
      #expect(error?.description == message)
    }
    for json in [#"{"type":"linear","inputs":3}"#, #"{"type":"linear","inputs":1e300,"outputs":2}"#, "[]", #"{}"#] {
      #expect(throws: DecodingError.self) {
        try JSONDecoder().decode(LayerConfiguration.self, from: Data(json.utf8))
      }
    }
  }
}
