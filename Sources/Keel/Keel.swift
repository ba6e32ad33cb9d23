// The whole library under one name: `import Keel`.

@_exported import KeelCL
@_exported import KeelCore
@_exported import KeelGraph
@_exported import KeelIO
@_exported import KeelNN
@_exported import KeelPrimitives
@_exported import KeelRuntime
@_exported import KeelTrain
